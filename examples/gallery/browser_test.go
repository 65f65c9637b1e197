package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// A tab is a page in a real headless Chromium. CI installs Chromium.
type tab struct {
	t   *testing.T
	ctx context.Context
}

func newTab(t *testing.T) *tab {
	t.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skip("chromium is not installed; CI installs it")
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.DisableGPU,
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true))
	if os.Geteuid() == 0 {
		options = append(options, chromedp.NoSandbox) // Chromium's sandbox does not work as root
	}
	ctx, cancel := chromedp.NewExecAllocator(t.Context(), options...) // with its own temporary profile
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	if err := chromedp.Do(ctx); err != nil { // starts the browser, and ends it with this context
		t.Fatal(err)
	}
	b := &tab{t, ctx}
	b.size(1300, 900)
	b.do(command(page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{
		Source: `window.troubles = [];
			addEventListener("securitypolicyviolation", (e) => troubles.push("forbidden: " + e.violatedDirective + " " + e.blockedURI));
			addEventListener("error", (e) => troubles.push(e.message));
			addEventListener("unhandledrejection", (e) => troubles.push(String(e.reason)));`,
	}))
	return b
}

// another opens one more tab in the same browser.
func (b *tab) another() *tab {
	b.t.Helper()
	ctx, cancel := chromedp.NewContext(b.ctx)
	b.t.Cleanup(cancel)
	if err := chromedp.Do(ctx); err != nil { // opens the tab, and closes it with this context
		b.t.Fatal(err)
	}
	return &tab{b.t, ctx}
}

// in returns the same tab for a subtest.
func (b *tab) in(t *testing.T) *tab { return &tab{t, b.ctx} }

// do runs actions one after the other.
func (b *tab) do(actions ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	if err := chromedp.Do(ctx, actions...); err != nil {
		b.t.Fatal(err)
	}
}

// command returns an action that sends one command of the DevTools protocol.
func command[P, R any](c cdp.Command[P, R], params P) chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
		_, err := cdp.Call(ctx, target, c, params)
		return err
	})
}

func (b *tab) open(url string) {
	b.t.Helper()
	b.do(chromedp.Navigate(url))
	b.wait(`document.readyState === "complete"`)
}

func (b *tab) size(width, height int64) {
	b.t.Helper()
	b.do(chromedp.EmulateViewport(width, height))
}

// feature emulates a media feature of CSS.
func (b *tab) feature(name, value string) {
	b.t.Helper()
	b.do(command(emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: name, Value: value}}}))
}

// wait waits until the JavaScript expression is true. It ignores errors,
// because a page may be loading.
func (b *tab) wait(expression string) {
	b.t.Helper()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	for {
		ok, err := chromedp.Run(ctx, chromedp.Evaluate[bool](expression))
		if ok && err == nil {
			return
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			b.t.Fatalf("waited %v for %s, the last error was %v", patience, expression, err)
		}
	}
}

// evaluate returns the value of a JavaScript expression. It waits for a
// promise.
func evaluate[T any](b *tab, expression string) T {
	b.t.Helper()
	awaited := func(p *runtime.EvaluateParams) { p.AwaitPromise = new(true) }
	v, err := chromedp.Run(b.ctx, chromedp.Evaluate[T](expression, awaited))
	if err != nil {
		b.t.Fatalf("%s: %v", expression, err)
	}
	return v
}

// check fails the test if the page is wider than the window, violates its
// Content-Security-Policy, or has an error in its script.
func (b *tab) check() {
	b.t.Helper()
	if over := evaluate[int](b, `document.documentElement.scrollWidth - document.documentElement.clientWidth`); over > 0 {
		widest := evaluate[string](b, `[...document.querySelectorAll("*")].findLast((e) => e.getBoundingClientRect().right > innerWidth).outerHTML.slice(0, 200)`)
		b.t.Errorf("the page is %d pixels wider than the window, by %s", over, widest)
	}
	if troubles := evaluate[[]string](b, `window.troubles ?? []`); len(troubles) > 0 { // not set without script
		b.t.Errorf("the page has %q, want no troubles", troubles)
	}
}

// axe fails the test if axe-core finds a fault: contrast, names, roles,
// headings, landmarks. CI installs axe-core.
func (b *tab) axe() {
	b.t.Helper()
	source, err := os.ReadFile(filepath.Join(os.Getenv("CLOUDINARYHOOK_NODE_MODULES"), "axe-core", "axe.min.js"))
	if err != nil {
		if os.Getenv("CI") != "" {
			b.t.Fatal(err)
		}
		b.t.Log("axe does not run: CLOUDINARYHOOK_NODE_MODULES names no node_modules folder with the package axe-core")
		return
	}
	b.do(chromedp.Evaluate[chromedp.Void](string(source)))
	type violation struct {
		ID    string `json:"id"`
		Help  string `json:"help"`
		Nodes []struct {
			HTML    string `json:"html"`
			Summary string `json:"failureSummary"`
		} `json:"nodes"`
	}
	violations := evaluate[[]violation](b, `axe.run().then((result) => result.violations)`)
	for _, v := range violations {
		b.t.Errorf("axe: %s: %s: %+v", v.ID, v.Help, v.Nodes)
	}
}

// keep writes a screenshot of the whole page to the folder that
// GALLERY_SCREENSHOTS names, if it is set. CI keeps them.
func (b *tab) keep(name string) {
	b.t.Helper()
	b.save(name, chromedp.FullScreenshot(100))
}

// keepView is like keep, but only for the visible part of the page.
func (b *tab) keepView(name string) {
	b.t.Helper()
	b.save(name, chromedp.CaptureScreenshot())
}

func (b *tab) save(name string, take chromedp.Action[[]byte]) {
	b.t.Helper()
	folder := os.Getenv("GALLERY_SCREENSHOTS")
	if folder == "" {
		return
	}
	picture, err := chromedp.Run(b.ctx, take)
	if err == nil {
		err = os.WriteFile(filepath.Join(folder, name+".png"), picture, 0o644)
	}
	if err != nil {
		b.t.Error(err)
	}
}
