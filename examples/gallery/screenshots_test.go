package main

import (
	"testing"

	"github.com/cloudinaryhook/cloudinaryhook/examples/internal/database"
)

// A shot is a page and the condition for its screenshot.
type shot struct {
	name, url string
	shows     string // a JavaScript expression that becomes true
}

const imagesCame = `[...document.images].every((img) => img.complete || img.getBoundingClientRect().top > innerHeight)`

func shots(t *testing.T) []shot {
	t.Helper()
	empty, _ := inProcess(t)
	unreachable, monitor := inProcess(t)
	fill(t, unreachable, monitor, "http://127.0.0.1:1")
	reachable, monitor := inProcess(t)
	fill(t, reachable, monitor, newImageHost(t).URL)
	delivery := make(map[string]string) // the delivery's page, by public ID
	for _, d := range getJSON[[]database.Delivery](t, unreachable, "/api/v1/deliveries") {
		delivery[d.PublicID] = unreachable.url + "/deliveries/" + d.ID
	}
	return []shot{
		{"pictures", reachable.url, imagesCame},
		{"filtered", reachable.url + "/?album_id=Catalogue&type=upload", `document.querySelectorAll(".album").length === 1`},
		{"full", unreachable.url, `document.querySelectorAll(".frame img[hidden]").length > 5`},
		{"empty", empty.url, `document.body.innerText.includes("No images yet")`},
		{"delivery", delivery["harbour-wall"], `document.querySelector("h1").innerText === "harbour-wall"`},
		{"pending", delivery["stuck/quay"], `document.body.innerText.includes("thumbnail service")`},
		{"rejections", unreachable.url + "/rejected", `document.querySelectorAll(".log form").length === 1`},
		{"rejected", delivery["refused/poster"], `document.body.innerText.includes("album is closed")`},
	}
}

// TestScreenshots keeps screenshots of the pages for people. It also checks
// each page: nothing is wider than the window, nothing violates the policy, and
// axe finds no fault.
func TestScreenshots(t *testing.T) {
	b, shots := newTab(t), shots(t)
	for _, window := range []struct {
		name          string
		width, height int64
		scheme        string
	}{
		{"", 1300, 860, "light"}, {"-dark", 1300, 860, "dark"}, {"-phone", 390, 844, "light"}, {"-phone-dark", 390, 844, "dark"},
	} {
		b.size(window.width, window.height)
		b.feature("prefers-color-scheme", window.scheme)
		for _, s := range shots {
			t.Run(s.name+window.name, func(t *testing.T) {
				b := b.in(t)
				b.open(s.url)
				b.wait(s.shows)
				if s.name+window.name == "pictures" {
					b.keepView("gallery") // docs/gallery.png
				}
				b.keep(s.name + window.name)
				b.check()
				b.axe()
			})
		}
	}
}
