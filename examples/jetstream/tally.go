package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/cloudinaryhook/cloudinaryhook"
	"github.com/cloudinaryhook/cloudinaryhook/examples/internal/database"
	"github.com/cloudinaryhook/cloudinaryhook/internal/sender"
)

// newSecrets returns a secret and a token key for one run.
func newSecrets() (secret string, tokenKey []byte) {
	return rand.Text(), []byte(rand.Text() + rand.Text())
}

// A load sends many notifications and counts the answers. It is safe for
// concurrent use.
type load struct {
	receivers []*sender.Sender
	client    *http.Client
	pause     time.Duration // between the tries of one notification

	mu       sync.Mutex
	sent     int
	accepted map[string]bool // IDs of deliveries that were answered 201
	statuses map[int]int     // how many tries had each status; 0: no answer
	last     time.Time       // time of the last 201
	gap      time.Duration   // the longest time without a 201
}

// newLoad returns a load for the receivers at these URLs.
func newLoad(secret string, tokenKey []byte, pause time.Duration, hooks ...string) *load {
	l := &load{
		client:   &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 1024}, Timeout: 20 * time.Second},
		pause:    pause,
		accepted: make(map[string]bool), statuses: make(map[int]int), last: time.Now(),
	}
	for _, hook := range hooks {
		l.receivers = append(l.receivers, &sender.Sender{Endpoint: hook, Secret: secret, Key: tokenKey})
	}
	return l
}

// run sends one notification after the other, at most one per interval, until
// ctx ends.
func (l *load) run(ctx context.Context, interval time.Duration) error {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		body, err := sender.FreshBody("upload-full", "harbour")
		if err != nil {
			return err
		}
		if err := l.deliver(context.WithoutCancel(ctx), body, cloudinaryTries); err != nil {
			return err
		}
	}
}

// cloudinaryTries is how often Cloudinary sends a notification that is not
// accepted.
const cloudinaryTries = 4

// deliver sends a notification until it is answered 201, each time to the next
// receiver, as a load balancer would. Unlike Cloudinary, it does not wait for
// minutes between the tries.
func (l *load) deliver(ctx context.Context, body []byte, tries int) error {
	l.mu.Lock()
	first := l.sent
	l.sent++
	l.mu.Unlock()
	for try := range tries {
		if try > 0 {
			time.Sleep(l.pause)
		}
		n, err := l.receivers[(first+try)%len(l.receivers)].Sign(body,
			&cloudinaryhook.Claims{OrganizationID: "harbour-museum", AlbumID: "Summer exhibition"})
		if err != nil {
			return err
		}
		answer, _ := n.Post(ctx, l.client) // an error is status 0
		if l.count(answer) {
			return nil
		}
	}
	return nil
}

func (l *load) count(answer sender.Answer) (accepted bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.statuses[answer.Status]++
	if answer.Status != http.StatusCreated {
		return false
	}
	l.accepted[answer.DeliveryID] = true
	now := time.Now()
	l.gap = max(l.gap, now.Sub(l.last))
	l.last = now
	return true
}

// acknowledged returns how many notifications were answered 201.
func (l *load) acknowledged() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.accepted)
}

// A result has the counts of a load.
type result struct {
	sent, acknowledged, refusals int // refusals count tries
	images, lost, doubled        int
	gap                          time.Duration
}

func (r result) String() string {
	return fmt.Sprintf("sent %d, acknowledged %d, lost %d, doubled %d; %d tries answered 500, %d images, longest gap without a 201 %v",
		r.sent, r.acknowledged, r.lost, r.doubled, r.refusals, r.images, r.gap.Round(10*time.Millisecond))
}

// compare checks that each notification that was answered 201 has an image.
func (l *load) compare(ctx context.Context, db *database.DB) (r result, err error) {
	const all = 1_000_000
	images, err := db.Images(ctx, "", database.Position{}, all)
	if err != nil {
		return r, err
	}
	byDelivery, byAsset := make(map[string]int), make(map[string]int)
	for _, img := range images {
		byDelivery[img.DeliveryID]++
		byAsset[img.PublicID]++
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	r = result{sent: l.sent, acknowledged: len(l.accepted), refusals: l.statuses[http.StatusInternalServerError],
		images: len(images), gap: l.gap}
	for id := range l.accepted {
		if byDelivery[id] == 0 {
			r.lost++
		}
	}
	for _, n := range byAsset {
		if n > 1 {
			r.doubled++
		}
	}
	return r, nil
}

// unexpected lists answers that a receiver should not give.
func (l *load) unexpected() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var list []string
	for status, n := range l.statuses {
		if status != http.StatusCreated && status != http.StatusInternalServerError {
			list = append(list, fmt.Sprintf("%d tries answered %d", n, status))
		}
	}
	return strings.Join(list, ", ")
}
