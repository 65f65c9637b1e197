package main

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/cloudinaryhook/cloudinaryhook"
	"github.com/cloudinaryhook/cloudinaryhook/cloudinaryhooktest"
)

// demo is Cloudinary, as far as this app can tell: it signs notifications and
// posts them over HTTP.
type demo struct {
	hook     string // the URL of the app's hook
	secret   string
	tokenKey []byte
	client   http.Client
	sent     int
}

// What the demo sends, one after the other: mostly images.
var (
	demoBodies = []string{
		"upload-simple", "upload-full", "upload-untyped", "upload-2020", "upload-document",
		"upload-simple", "upload-video", "upload-full", "upload-context-flat", "eager-done",
		"upload-untyped", "error", "upload-rejected", "upload-2020", "moderation", "resource_tags_changed",
	}
	demoAlbums = []cloudinaryhook.Claims{
		{OrganizationID: "harbour-museum", AlbumID: "Summer exhibition"},
		{OrganizationID: "harbour-museum", AlbumID: "Archive"},
		{OrganizationID: "north-cycles", AlbumID: "Catalogue"},
	}
	demoNames = []string{"pier", "lantern", "ropes", "gull", "tide", "crane", "dune", "mast", "buoy", "shell", "net", "cliff"}
)

func newDemo(hook, secret string, tokenKey []byte) *demo {
	return &demo{hook: hook, secret: secret, tokenKey: tokenKey, client: http.Client{Timeout: 20 * time.Second}}
}

// run sends a few a second at first, so that the page fills, and then one now
// and then.
func (d *demo) run(ctx context.Context, logger *slog.Logger) {
	const quick, slow = 300 * time.Millisecond, 8 * time.Second
	for {
		if err := d.send(ctx); err != nil && ctx.Err() == nil {
			logger.WarnContext(ctx, "the demo could not send a notification", "error", err)
		}
		pause := slow
		if d.sent < 24 {
			pause = quick
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
	}
}

func (d *demo) send(ctx context.Context) error {
	body, err := freshBody(demoBodies[d.sent%len(demoBodies)], demoNames[d.sent%len(demoNames)])
	if err != nil {
		return err
	}
	n, err := d.notification(body, demoAlbums[d.sent%len(demoAlbums)])
	if err != nil {
		return err
	}
	d.sent++
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, n.url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	r.Header.Set(cloudinaryhook.TimestampHeader, n.timestamp)
	r.Header.Set(cloudinaryhook.SignatureHeader, n.signature)
	resp, err := d.client.Do(r)
	if failed, ok := errors.AsType[*url.Error](err); ok {
		return failed.Err // without the URL, which has the token and would be logged
	}
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusCreated {
		err = fmt.Errorf("the answer was %s", resp.Status)
	}
	_ = resp.Body.Close()
	return err
}

// A notification is what is sent beside the body.
type notification struct {
	url, timestamp, signature string
}

func (d *demo) notification(body []byte, claims cloudinaryhook.Claims) (n notification, err error) {
	claims.ExpiresAt = jwt.NewNumericDate(time.Now().Add(2 * time.Hour))
	token, err := cloudinaryhook.SignToken(d.tokenKey, &claims)
	if err != nil {
		return n, err
	}
	if n.url, err = cloudinaryhook.NotificationURL(d.hook, token); err != nil {
		return n, err
	}
	n.timestamp = strconv.FormatInt(time.Now().Unix(), 10)
	n.signature = cloudinaryhook.Sign(crypto.SHA1, body, n.timestamp, d.secret)
	return n, nil
}

// freshBody is a golden body about an asset that nobody has seen yet.
func freshBody(name, publicID string) ([]byte, error) {
	body, err := fs.ReadFile(cloudinaryhooktest.Bodies(), name+".json")
	if err != nil {
		return nil, err
	}
	payload, err := cloudinaryhook.ParsePayload(body)
	if err != nil {
		return nil, err
	}
	n := payload.Common()
	replace := func(old, fresh string) {
		if old != "" {
			body = bytes.ReplaceAll(body, []byte(old), []byte(fresh))
		}
	}
	replace(n.PublicID, publicID+"-"+strings.ToLower(rand.Text()[:6]))
	replace(n.RequestID, strings.ToLower(rand.Text()))
	if n.Error != nil {
		replace(n.Error.RequestID, strings.ToLower(rand.Text()[:16]))
	}
	return body, nil
}

// curl is a command that sends one more image. It works for two hours, as long
// as its signature is in the replay window.
func (d *demo) curl() string {
	body, err := freshBody("upload-untyped", "by-hand")
	if err != nil {
		return err.Error()
	}
	n, err := d.notification(body, demoAlbums[0])
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("curl -i -H '%s: %s' -H '%s: %s' --data-binary '%s' '%s'",
		cloudinaryhook.TimestampHeader, n.timestamp, cloudinaryhook.SignatureHeader, n.signature, body, n.url)
}
