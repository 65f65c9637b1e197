package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/cloudinaryhook/cloudinaryhook"
	"github.com/cloudinaryhook/cloudinaryhook/internal/sender"
)

// demo plays Cloudinary for this app: it signs notifications and posts them
// over HTTP.
type demo struct {
	cloudinary sender.Sender
	client     http.Client
	sent       int
}

// The demo sends these, one after the other: mostly images.
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
	return &demo{
		cloudinary: sender.Sender{Endpoint: hook, Secret: secret, Key: tokenKey},
		client:     http.Client{Timeout: 20 * time.Second},
	}
}

// strangerEvery is the number of notifications after which the demo sends one
// with a wrong signature, so that the page also shows failures.
const strangerEvery = 8

// run first sends a few notifications a second, so that the page fills, and
// later one every few seconds.
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
	body, name, album := demoBodies[d.sent%len(demoBodies)], demoNames[d.sent%len(demoNames)], demoAlbums[d.sent%len(demoAlbums)]
	d.sent++
	n, err := notification(d.cloudinary, body, name, album)
	if err != nil {
		return err
	}
	if err := d.post(ctx, n, http.StatusCreated); err != nil || d.sent%strangerEvery != 0 {
		return err
	}
	stranger := d.cloudinary
	stranger.Secret = rand.Text()
	if n, err = notification(stranger, body, name, album); err != nil {
		return err
	}
	return d.post(ctx, n, http.StatusUnauthorized)
}

func (d *demo) post(ctx context.Context, n *sender.Notification, want int) error {
	answer, err := n.Post(ctx, &d.client)
	if err == nil && answer.Status != want {
		err = fmt.Errorf("the answer was %d", answer.Status)
	}
	return err
}

// notification returns a golden body about a new asset. It is on one line, so
// that the curl command is on one line too.
func notification(from sender.Sender, name, publicID string, claims cloudinaryhook.Claims) (*sender.Notification, error) {
	body, err := sender.FreshBody(name, publicID)
	if err != nil {
		return nil, err
	}
	var line bytes.Buffer
	if err := json.Compact(&line, body); err != nil {
		return nil, err
	}
	claims.ExpiresAt = jwt.NewNumericDate(time.Now().Add(2 * time.Hour))
	return from.Sign(line.Bytes(), &claims)
}

// curl returns a command that sends one more image. It works for two hours:
// then its signature is outside the replay window and its token has expired.
func (d *demo) curl() string {
	n, err := notification(d.cloudinary, "upload-simple", "by-hand", demoAlbums[0])
	if err != nil {
		return err.Error()
	}
	return n.Curl()
}
