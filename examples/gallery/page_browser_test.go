package main

import (
	"bytes"
	"fmt"
	"image/png"
	"maps"
	"math"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/google/go-cmp/cmp"

	"github.com/cloudinaryhook/cloudinaryhook"
	"github.com/cloudinaryhook/cloudinaryhook/cloudinaryhooktest"
	"github.com/cloudinaryhook/cloudinaryhook/examples/internal/database"
)

const isLive = `document.querySelector("[data-connection]").textContent === "Live"`

// TestImagesArriveLive: new images appear on an open page. The rest of the page
// stays as it is: focus, scroll position, loaded images, and a filter that was
// chosen but not sent yet.
func TestImagesArriveLive(t *testing.T) {
	b, host := newTab(t), newImageHost(t)
	p, _ := inProcess(t)
	b.open(p.url)
	b.wait(isLive)
	b.do(chromedp.Evaluate[chromedp.Void](`window.untouched = true`))
	post := func(name string) { p.post(t, uploaded(name, host.URL+"/"+name, 800)) }
	for i := range 30 {
		post(fmt.Sprint("early-", i))
	}
	b.wait(`document.querySelectorAll(".grid li").length === 30 && document.querySelectorAll(".log li").length === 30`)
	b.do(chromedp.Evaluate[chromedp.Void](`
		document.querySelector("select").value = "test-album";
		window.link = [...document.querySelectorAll(".log a")].at(-14);
		link.focus();
		link.scrollIntoView({ block: "center" });`))
	b.wait(`scrollY > 0 && document.querySelectorAll(".loaded").length >= 20`) // visible, or almost visible
	host.mu.Lock()
	before := maps.Clone(host.asked)
	host.mu.Unlock()
	const top = `link.getBoundingClientRect().top`
	want := evaluate[float64](b, top)
	for i := range 5 {
		post(fmt.Sprint("late-", i))
	}
	b.wait(`document.querySelectorAll(".grid li").length === 35 && document.querySelectorAll(".log li").length === 35`)
	if got := evaluate[float64](b, top); math.Abs(got-want) > 5 { // each update may move it by a fraction of a pixel
		t.Errorf("after new images the link is at %v, want %v", got, want)
	}
	if !evaluate[bool](b, `document.activeElement === link && untouched && document.querySelector("select").value === "test-album"`) {
		t.Error("new images changed the focus, the page or the chosen filter")
	}
	host.mu.Lock()
	defer host.mu.Unlock()
	for name, n := range before {
		if host.asked[name] != n || n != 1 {
			t.Errorf("%s was asked for %d times and then %d, want once", name, n, host.asked[name])
		}
	}
	for _, head := range host.heads {
		if head.Get("Referer") != "" || head.Get("Cookie") != "" {
			t.Errorf("the image host got %v, want no referrer and no cookie", head)
		}
	}
	b.check()
}

// TestPendingBecomesDone: the row of a delivery in the log changes in place.
func TestPendingBecomesDone(t *testing.T) {
	b := newTab(t)
	p, _ := inProcess(t)
	b.open(p.url)
	b.wait(isLive)
	body := uploaded("again", "", 800)
	p.post(t, body)
	b.wait(`document.querySelector(".log").innerText.includes("not yet") && document.querySelector(".stats .pending dd").innerText === "1"`)
	b.do(chromedp.Evaluate[chromedp.Void](`window.row = document.querySelector(".log li"); row.querySelector("a").focus();`))
	p.post(t, body)
	b.wait(`row.className === "done" && !row.innerText.includes("not yet") && document.querySelectorAll(".stats .pending, .log li.pending").length === 0`)
	if !evaluate[bool](b, `row.isConnected && row.contains(document.activeElement) && document.querySelectorAll(".log li, .grid li").length === 2`) {
		t.Error("the row was replaced, has lost the focus, or there is another row or image")
	}
	b.check()
}

// TestReconnects: if the program is down, the page says so. When it is back,
// the page shows the notifications of the meantime and is live again.
func TestReconnects(t *testing.T) {
	b := newTab(t)
	args := []string{"-db", filepath.Join(t.TempDir(), "gallery.db")}
	p := start(t, testEnv(), args...)
	b.open(p.url)
	b.wait(isLive)
	b.do(chromedp.Evaluate[chromedp.Void](`window.untouched = true`))
	p.kill()
	b.wait(`document.querySelector("[data-connection]").textContent.startsWith("Connection lost")`)
	p = start(t, testEnv(), append(args, "-addr", strings.TrimPrefix(p.url, "http://"))...)
	p.post(t, golden(t, "upload-simple.json"))
	b.wait(`document.querySelector("main").innerText.includes("hat")`)
	b.wait(isLive)
	p.post(t, golden(t, "upload-untyped.json"))
	b.wait(`untouched && document.querySelector("main").innerText.includes("lobby1")`)
}

// TestHiddenPagesDoNotWatch: a browser opens six connections to a server, and
// tabs in the background would use all of them. A page may also be opened in
// the background.
func TestHiddenPagesDoNotWatch(t *testing.T) {
	b := newTab(t)
	p, monitor := inProcess(t)
	watchers := func(want int) {
		t.Helper()
		for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
			monitor.mu.Lock()
			got := len(monitor.watchers)
			monitor.mu.Unlock()
			if got == want {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("%d pages watch, want %d", got, want)
			}
		}
	}
	const opened = `Object.defineProperty(document, "hidden", { value: true, configurable: true });
		const real = EventSource; window.connections = 0;
		EventSource = class extends real { constructor(url) { super(url); connections++; } };`
	b.do(command(page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{Source: opened}))
	b.open(p.url)
	if n := evaluate[int](b, "connections"); n != 0 {
		t.Errorf("a page in the background connects %d times, want none", n)
	}
	hide := func(hidden bool) {
		b.do(chromedp.Evaluate[chromedp.Void](fmt.Sprintf(`Object.defineProperty(document, "hidden", { value: %v, configurable: true }); document.dispatchEvent(new Event("visibilitychange"))`, hidden)))
	}
	hide(false)
	b.wait(isLive)
	watchers(1)
	hide(true)
	watchers(0)
	p.post(t, golden(t, "upload-simple.json"))
	hide(false)
	watchers(1)
	b.wait(`document.querySelector("main").innerText.includes("hat")`)
}

// TestManyTabs: even if all tabs are visible, in windows side by side, each of
// them loads and shows new deliveries.
func TestManyTabs(t *testing.T) {
	b := newTab(t)
	p, _ := inProcess(t)
	tabs := []*tab{b}
	b.open(p.url)
	for range 8 {
		other := b.another()
		other.open(p.url)
		tabs = append(tabs, other)
	}
	p.post(t, golden(t, "upload-simple.json"))
	watching := 0
	for _, one := range tabs {
		one.wait(`document.querySelector("main").innerText.includes("hat")`)
		if evaluate[bool](one, isLive) {
			watching++
		}
	}
	if watching != maxWatching {
		t.Errorf("%d tabs watch, want %d", watching, maxWatching)
	}
}

// TestTooManyPages: a page that may not watch asks every few seconds, and
// watches when there is room.
func TestTooManyPages(t *testing.T) {
	b := newTab(t)
	p, monitor := inProcess(t)
	var stop func()
	for range maxWatching {
		var err error
		if _, stop, err = monitor.watch("127.0.0.1"); err != nil {
			t.Fatal(err)
		}
	}
	b.open(p.url)
	b.wait(`document.querySelector("[data-connection]").textContent === "Live, every 5 seconds"`)
	p.post(t, golden(t, "upload-simple.json"))
	b.wait(`document.querySelector("main").innerText.includes("hat")`)
	stop()
	b.wait(isLive)
}

// TestHostileTextInTheBrowser: no text of a notification runs, loads something
// or breaks the layout. This holds for live updates, for a loaded page and for
// the pages of deliveries.
func TestHostileTextInTheBrowser(t *testing.T) {
	b := newTab(t)
	p := start(t, testEnv(), "-db", filepath.Join(t.TempDir(), "gallery.db"))
	b.open(p.url)
	b.wait(isLive)
	for _, text := range hostile {
		claim := cut(text, 900)
		claims := &cloudinaryhook.Claims{OrganizationID: claim, AlbumID: claim, UserID: claim}
		for _, body := range [][]byte{hostileBody(t, "upload", text), hostileBody(t, text, text)} {
			if status := p.post(t, body, cloudinaryhooktest.WithClaims(claims)); status != http.StatusCreated {
				t.Fatalf("answered %d, want 201", status)
			}
		}
	}
	all := getJSON[[]database.Delivery](t, p, "/api/v1/deliveries")
	b.wait(fmt.Sprintf(`document.querySelectorAll(".log li").length === %d && document.querySelectorAll(".grid li").length === %d`, len(all), len(hostile)))
	checkInnocent(b)
	if text := evaluate[string](b, `document.body.innerText`); !strings.Contains(text, `gpj.\u{202e}exe`) || !strings.Contains(text, `<script>hacked=1</script>`) {
		t.Error("the page does not show markup and direction characters as text")
	}
	for _, width := range []int64{1300, 360} {
		b.size(width, 900)
		b.open(p.url)
		b.wait(isLive)
		checkInnocent(b)
		b.keep(fmt.Sprint("hostile-", width))
	}
	for _, d := range all {
		b.open(p.url + "/deliveries/" + d.ID)
		checkInnocent(b)
	}
}

func checkInnocent(b *tab) {
	b.t.Helper()
	b.check()
	if evaluate[bool](b, `"hacked" in window`) {
		b.t.Error("a payload's text ran as script")
	}
	if tall := evaluate[[]string](b, `[...document.querySelectorAll("header, .overview, .filter, .grid li, .log li, h1, h3")].filter((e) => e.offsetHeight > 420).map((e) => e.outerHTML.slice(0, 200))`); len(tall) > 0 {
		b.t.Errorf("higher than 420 pixels: %q", tall)
	}
}

// TestPlaceholders: an image that cannot be loaded does not change the
// placeholder, with script and without. A loaded image covers it.
func TestPlaceholders(t *testing.T) {
	b, host := newTab(t), newImageHost(t)
	p, _ := inProcess(t)
	p.post(t, uploaded("gone", "http://127.0.0.1:1/gone.jpg", 800))
	p.post(t, uploaded("there", host.URL+"/there.png", 800))
	for _, script := range []bool{true, false} {
		t.Run(fmt.Sprintf("script %v", script), func(t *testing.T) {
			b := b.in(t)
			b.do(command(emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: !script}))
			b.open(p.url)
			b.wait(`[...document.images].length === 2 && [...document.images].every((img) => img.complete)`)
			if script {
				b.wait(`document.querySelectorAll(".loaded").length === 1`)
			}
			there, gone := b.frame(0), b.frame(1)
			b.do(chromedp.Evaluate[chromedp.Void](`document.querySelectorAll(".frame img").forEach((img) => img.remove())`))
			drawing := b.frame(1)
			if bytes.Equal(there, b.frame(0)) {
				t.Error("an image that was loaded does not cover the placeholder")
			}
			if !bytes.Equal(gone, drawing) {
				t.Error("an image that cannot be loaded changes the placeholder")
			}
			if colours := colours(t, drawing); colours < 4 {
				t.Errorf("the placeholder has %d colours, want a sky, a sun, hills and text", colours)
			}
		})
	}
}

// frame takes a screenshot of the n-th image's frame.
func (b *tab) frame(n int) []byte {
	b.t.Helper()
	picture, err := chromedp.Run(b.ctx, chromedp.Screenshot(chromedp.CSS(fmt.Sprintf(".grid li:nth-child(%d) .frame", n+1))))
	if err != nil {
		b.t.Fatal(err)
	}
	return picture
}

func colours(t *testing.T, picture []byte) int {
	t.Helper()
	img, err := png.Decode(bytes.NewReader(picture))
	if err != nil {
		t.Fatal(err)
	}
	seen := make(map[any]int)
	bounds := img.Bounds()
	for y := bounds.Min.Y; y < bounds.Max.Y; y++ {
		for x := bounds.Min.X; x < bounds.Max.X; x++ {
			seen[img.At(x, y)]++
		}
	}
	maps.DeleteFunc(seen, func(_ any, n int) bool { return n < 20 })
	return len(seen)
}

// TestWithoutScript: the page has everything and the filter works, but there
// are no live updates.
func TestWithoutScript(t *testing.T) {
	b := newTab(t)
	p, m := inProcess(t)
	fill(t, p, m, "http://127.0.0.1:1")
	b.do(command(emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true}))
	b.open(p.url)
	text := evaluate[string](b, `document.body.innerText`)
	for _, want := range []string{"Reload the page to see changes.", "Catalogue", "pier-at-dusk", "signature wrong", "the thumbnail service does not answer"} {
		if !strings.Contains(text, want) {
			t.Errorf("the page does not say %q", want)
		}
	}
	b.do(chromedp.SetValue(chromedp.CSS("select[name=album_id]"), "Catalogue"))
	if _, err := chromedp.RunResponse(b.ctx, chromedp.Click(chromedp.CSS(".filter button"))); err != nil {
		t.Fatal(err)
	}
	b.wait(`location.search.includes("album_id=Catalogue") && document.querySelectorAll(".album").length === 1`)
	b.check()
}

// TestKeyboard: the tab key follows the order of the page, the focus is
// visible, and there is a link past the filter.
func TestKeyboard(t *testing.T) {
	b := newTab(t)
	p, _ := inProcess(t)
	p.post(t, golden(t, "upload-simple.json"))
	b.open(p.url)
	b.wait(isLive)
	var got []string
	for range 8 {
		b.do(chromedp.KeyEvent(kb.Tab))
		focus := evaluate[[]string](b, `(() => {
			const e = document.activeElement, box = e.getBoundingClientRect();
			const outlined = [null, "::after"].some((part) => getComputedStyle(e, part).outlineStyle !== "none");
			const seen = outlined && box.top >= 0 && box.left >= 0;
			return [e.name || e.innerText, seen ? "" : "unseen"];
		})()`)
		got = append(got, strings.TrimSpace(strings.Join(focus, " ")))
	}
	want := []string{"Albums", "Deliveries", "Gallery", "album_id", "type", "Show", "hat", "hat"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the order differs (-want +got):\n%s", diff)
	}
	b.open(p.url)
	b.do(chromedp.KeyEvent(kb.Tab), chromedp.KeyEvent(kb.Enter), chromedp.KeyEvent(kb.Tab))
	if got := evaluate[string](b, `document.activeElement.getAttribute("href")`); !strings.HasPrefix(got, "/deliveries/") {
		t.Errorf("after the jump to the albums, the next focus got %q, want the first image's link", got)
	}
}

// TestMotion: a new delivery is shaded for a moment, unless people want no
// motion. Screen readers announce all new deliveries in one sentence.
func TestMotion(t *testing.T) {
	b := newTab(t)
	p, _ := inProcess(t)
	p.post(t, golden(t, "upload-simple.json"))
	for value, want := range map[string]string{"no-preference": "2.5s", "reduce": "0s"} {
		b.feature("prefers-reduced-motion", value)
		b.open(p.url)
		b.wait(isLive)
		if got := evaluate[string](b, `getComputedStyle(document.querySelector(".log li")).transitionDuration`); got != want {
			t.Errorf("with %s the shade takes %s, want %s", value, got, want)
		}
	}
	if live := evaluate[int](b, `document.querySelectorAll("[aria-live], [role=log], [role=alert]").length`); live != 0 {
		t.Errorf("%d elements announce all their changes, want only the two statuses", live)
	}
	p.post(t, golden(t, "upload-untyped.json"))
	b.wait(`document.querySelector("[data-news]").textContent === "One new delivery."`)
	for range 3 {
		p.post(t, fmt.Appendf(nil, `{"notification_type":"delete","request_id":%q}`, time.Now()))
	}
	b.wait(`document.querySelectorAll(".log li").length === 5`)
	if got := evaluate[string](b, `document.querySelector("[data-news]").textContent`); got != "One new delivery." {
		t.Errorf("the page announces %q at once, want it to wait", got)
	}
}

// TestDemoInTheBrowser: the demo fills the page by itself.
func TestDemoInTheBrowser(t *testing.T) {
	b := newTab(t)
	p := start(t, []string{secretVariable + "=", keyVariable + "="})
	b.open(p.url)
	b.wait(`document.querySelectorAll(".grid li").length >= 8 && document.querySelectorAll(".album").length === 3`)
	b.wait(`document.querySelectorAll(".log li").length >= 10 && document.querySelector(".failures").innerText.includes("signature wrong")`)
	b.keep("demo")
	b.check()
}
