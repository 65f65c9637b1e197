package poll_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cloudinaryhook/cloudinaryhook"
	"github.com/cloudinaryhook/cloudinaryhook/cloudinaryhooktest"
	"github.com/cloudinaryhook/cloudinaryhook/poll"
)

// TestNothingIsLost sends 1,000 notifications, every tenth of them twice, to
// four receivers that are killed and started again. Requests are answered late,
// with an error, with HTML, with half an answer or with none, and messages come
// again while receivers still work on them. In the end there is one image for
// each.
func TestNothingIsLost(t *testing.T) {
	const notifications, receivers = 1000, 4
	server := cloudinaryhooktest.NewPollServer(t)
	for i := range notifications {
		body := fmt.Appendf(nil, `{"notification_type":"upload","public_id":"%d","version":1,"request_id":"%d"}`, i, i)
		server.Send("images", "", body)
		if i%10 == 0 {
			server.Send("images", "", body)
		}
	}
	random := rand.New(rand.NewPCG(1, 2))
	server.FailReceive(randomFaults(random, 80)...)
	server.FailAcknowledge(randomFaults(random, 80)...)
	world := &world{server: server, store: new(cloudinaryhooktest.MemoryStore), rows: make(map[string]string)}

	var work sync.WaitGroup
	for range receivers {
		seed := random.Uint64()
		work.Go(func() { world.keepReceiving(t, rand.New(rand.NewPCG(seed, seed))) })
	}
	again := time.NewTicker(300 * time.Millisecond) // the API's shortest visibility timeout is a second
	defer again.Stop()
	for server.Remaining() > 0 {
		select {
		case <-again.C:
			server.Redeliver()
		case <-t.Context().Done():
			t.Fatal("the test ends too early")
		}
	}
	work.Wait()

	images := make(map[string]int)
	for _, publicID := range world.rows {
		images[publicID]++
	}
	for i := range notifications {
		if got := images[fmt.Sprint(i)]; got != 1 {
			t.Errorf("%d has %d images, want 1", i, got)
		}
	}
	if got := len(world.store.Deliveries()); got != notifications {
		t.Errorf("got %d deliveries, want %d", got, notifications)
	}
	for _, d := range world.store.Deliveries() {
		if world.store.State(d.ID) != cloudinaryhook.StateDone {
			t.Errorf("%s was acknowledged and is not done", d.PublicID)
		}
	}
	if world.kills.Load() < 5 || server.Receipts() <= notifications*11/10 {
		t.Errorf("got %d kills and %d receipts, want 5 at least, and more receipts than messages", world.kills.Load(), server.Receipts())
	}
	t.Logf("%d kills, %d receipts of %d messages", world.kills.Load(), server.Receipts(), notifications*11/10)
}

// randomFaults makes every fourth request fail.
func randomFaults(random *rand.Rand, n int) []cloudinaryhooktest.PollFault {
	kinds := []cloudinaryhooktest.PollFault{
		cloudinaryhooktest.FaultStatus(http.StatusServiceUnavailable, ""),
		cloudinaryhooktest.FaultStatus(http.StatusTooManyRequests, "0"),
		cloudinaryhooktest.FaultHTML, cloudinaryhooktest.FaultCut, cloudinaryhooktest.FaultLost,
		cloudinaryhooktest.FaultSlow(50 * time.Millisecond),
	}
	faults := make([]cloudinaryhooktest.PollFault, n) // nil: none
	for i := range faults {
		if random.IntN(4) == 0 {
			faults[i] = kinds[random.IntN(len(kinds))]
		}
	}
	return faults
}

// A world holds the things that outlive a receiver: the API, the store, and the
// app's table of images, whose key is unique.
type world struct {
	server *cloudinaryhooktest.PollServer
	store  *cloudinaryhooktest.MemoryStore
	kills  atomic.Int64

	mu   sync.Mutex
	rows map[string]string // public ID by Image.Key
}

// keepReceiving runs one receiver after the other until no message is left. It
// kills all but the last.
func (w *world) keepReceiving(t *testing.T, random *rand.Rand) {
	for w.server.Remaining() > 0 {
		ctx, cancel := context.WithCancel(t.Context())
		p := &process{world: w, kill: cancel}
		p.steps.Store(100 + random.Int64N(400))
		ended := make(chan struct{})
		go func() { // the last one ends when there is nothing left
			defer close(ended)
			for ctx.Err() == nil && w.server.Remaining() > 0 {
				sleepOrDone(ctx, 5*time.Millisecond)
			}
			cancel()
		}()
		if err := p.receiver().Run(ctx); ctx.Err() == nil {
			t.Errorf("Run got %v, want it to go on until it is killed", err)
			cancel()
		}
		<-ended
	}
}

func sleepOrDone(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// A process is a receiver that can be killed. Each request, write or read is a
// step. After a given number of steps, none of them has an effect.
type process struct {
	*world
	steps atomic.Int64
	kill  context.CancelFunc
}

var errKilled = errors.New("killed")

func (p *process) step() error {
	if p.dead() {
		return errKilled
	}
	return nil
}

// dead takes a step and reports whether the process is dead. The last step
// kills it.
func (p *process) dead() bool {
	left := p.steps.Add(-1)
	if left == 0 {
		p.kills.Add(1)
		p.kill()
	}
	return left <= 0
}

func (p *process) receiver() *poll.Receiver {
	client := newClient(p.server)
	client.Wait = 0 // the default: the server answers as soon as there is something
	client.HTTPClient = &http.Client{Transport: p}
	return &poll.Receiver{
		Client:      client,
		Concurrency: 20,
		Signature:   &cloudinaryhook.SignatureVerifier{Secrets: []string{cloudinaryhooktest.DefaultSecret}},
		Processor:   &cloudinaryhook.Processor{Store: p, Images: p},
	}
}

func (p *process) RoundTrip(r *http.Request) (*http.Response, error) {
	if p.dead() {
		return &http.Response{StatusCode: http.StatusUnauthorized, Body: http.NoBody}, nil // ends Run at once; otherwise it would retry for 10 s
	}
	return http.DefaultTransport.RoundTrip(r)
}

func (p *process) Save(ctx context.Context, d *cloudinaryhook.Delivery) (cloudinaryhook.State, error) {
	if err := p.step(); err != nil {
		return 0, err
	}
	return p.store.Save(ctx, d)
}

func (p *process) Complete(ctx context.Context, id string, cause error) error {
	if err := p.step(); err != nil {
		return err
	}
	return p.store.Complete(ctx, id, cause)
}

func (p *process) CreateImage(_ context.Context, img *cloudinaryhook.Image) error {
	if err := p.step(); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rows[img.Key] = img.PublicID
	return p.step() // it may be killed before it learns that the call succeeded
}

// With a wrong secret nothing is acknowledged, and the app's code sees nothing.
func TestWrongSecretAcknowledgesNothing(t *testing.T) {
	server := cloudinaryhooktest.NewPollServer(t)
	for range 50 {
		server.Send("images", "", []byte(body))
	}
	store := new(cloudinaryhooktest.MemoryStore)
	r := &poll.Receiver{
		Client:     newClient(server),
		Signature:  &cloudinaryhook.SignatureVerifier{Secrets: []string{"the secret of another product environment"}},
		Processor:  &cloudinaryhook.Processor{Store: store, Images: cloudinaryhook.ImageCreatorFunc(fine)},
		Malformed:  func(context.Context, *poll.Message, error) error { return nil },
		Unverified: time.Nanosecond,
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second) // if Run goes on, the test fails instead of hanging
	defer cancel()
	err := r.Run(ctx)
	if !errors.Is(err, poll.ErrNothingVerifies) || !errors.Is(err, cloudinaryhook.ErrSignatureMismatch) {
		t.Errorf("got %v, want ErrNothingVerifies of a mismatch", err)
	}
	if server.Acknowledged() != 0 || server.Remaining() != 50 || server.Receipts() < 20 || len(store.Deliveries()) != 0 {
		t.Errorf("got %d acknowledged, %d remaining, %d receipts and %d deliveries; want 0, 50, 20 at least and 0",
			server.Acknowledged(), server.Remaining(), server.Receipts(), len(store.Deliveries()))
	}
}
