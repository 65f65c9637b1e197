package main

import (
	"testing"

	"github.com/cloudinaryhook/cloudinaryhook/examples/internal/database"
)

// TestScreenshots shows the pages as people see them, for people to look at, and
// asks what can be asked of any page: that nothing is wider than the window, that
// the policy had nothing to forbid, and what axe finds.
func TestScreenshots(t *testing.T) {
	b := newTab(t)
	empty, _ := inProcess(t)
	unreachable, monitor := inProcess(t)
	fill(t, unreachable, monitor, "http://127.0.0.1:1")
	reachable, monitor := inProcess(t)
	fill(t, reachable, monitor, newImageHost(t).URL)
	ids := make(map[string]string) // of deliveries, by public ID
	for _, d := range getJSON[[]database.Delivery](t, unreachable, "/api/v1/deliveries") {
		ids[d.PublicID] = d.ID
	}
	const loaded = `[...document.images].every((img) => img.complete || img.getBoundingClientRect().top > innerHeight)`
	pages := []struct {
		name, url string
		shows     string // a JavaScript expression that becomes true
	}{
		{"empty", empty.url, `document.body.innerText.includes("No images yet")`},
		{"full", unreachable.url, `document.querySelectorAll(".frame img[hidden]").length > 5`},
		{"pictures", reachable.url, loaded},
		{"filtered", reachable.url + "/?album_id=Catalogue&type=upload", `document.querySelectorAll(".album").length === 1`},
		{"delivery", unreachable.url + "/deliveries/" + ids["harbour-wall"], `document.querySelector("h1").innerText === "harbour-wall"`},
		{"pending", unreachable.url + "/deliveries/" + ids["stuck/quay"], `document.body.innerText.includes("thumbnail service")`},
		{"rejected", unreachable.url + "/deliveries/" + ids["refused/poster"], `document.body.innerText.includes("album is closed")`},
	}
	for _, window := range []struct {
		name          string
		width, height int64
		scheme        string
	}{
		{"", 1300, 900, "light"}, {"-dark", 1300, 900, "dark"}, {"-phone", 390, 844, "light"}, {"-phone-dark", 390, 844, "dark"},
	} {
		b.size(window.width, window.height)
		b.feature("prefers-color-scheme", window.scheme)
		for _, page := range pages {
			t.Run(page.name+window.name, func(t *testing.T) {
				b := b.in(t)
				b.open(page.url)
				b.wait(page.shows)
				b.keep(page.name + window.name)
				b.check()
				b.axe()
			})
		}
	}
	b.feature("prefers-color-scheme", "light")
	b.size(1300, 860)
	b.open(reachable.url)
	b.wait(loaded)
	b.keepView("gallery") // docs/gallery.png
}
