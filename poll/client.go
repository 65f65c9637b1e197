package poll

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cloudinaryhook/cloudinaryhook"
	"github.com/cloudinaryhook/cloudinaryhook/internal/httperr"
	"github.com/cloudinaryhook/cloudinaryhook/internal/secrets"
)

const (
	defaultBaseURL     = "https://api.cloudinary.com"
	defaultMaxMessages = 10 // the API's own defaults, like the next two; requests send them explicitly
	defaultWait        = 20 * time.Second
	defaultVisibility  = 30 * time.Second

	maxMessages    = 100 // also the limit of handles in one acknowledgement
	maxWait        = time.Minute
	maxVisibility  = 10 * time.Minute
	maxAnswer      = 64 << 20         // bytes
	transferTime   = 30 * time.Second // for a request beside its wait
	firstBackoff   = 500 * time.Millisecond
	maxBackoff     = time.Minute
	maxRetryAfter  = time.Hour // a longer pause is more likely a proxy's mistake than Cloudinary's intention
	statusRateOld  = 420       // pycloudinary treats it as 429
	statusAcked    = "acked"
	contentTypeAPI = "application/json"
)

// A Client receives and acknowledges the notifications of one channel or batch.
//
// A Client tries again by itself after a temporary failure: no connection, a
// status 408, 420, 429 or 5xx, an answer that is cut off or is not JSON.
// It first waits up to half a second, and then up to twice as long each time, at
// most a minute. Jitter makes each pause up to half shorter. If the API sends
// Retry-After, the Client waits at least as long as that says, up to an hour. It
// goes on until the context ends.
//
// The methods of the zero value return [cloudinaryhook.ErrMisconfigured]. A
// Client is safe for concurrent use as long as its fields are not changed.
type Client struct {
	// CloudName, APIKey and APISecret are those of one product environment. All
	// are required. They are sent to BaseURL with every request.
	CloudName, APIKey, APISecret string

	// Channel is the channel of a trigger with the URI "poll://CHANNEL". BatchID is
	// a batch of a trigger with the URI "poll://*". Exactly one of the two is
	// required.
	Channel, BatchID string

	// MaxMessages is how many messages Receive returns at most, from 1 to 100;
	// 0 means 10. A Receiver uses its Concurrency instead.
	MaxMessages int

	// Wait is how long the API holds a request while there is no message, up to 60
	// s; 0 means 20 s. With a negative Wait, the API answers at once.
	Wait time.Duration

	// Visibility is how long the API hides a message after it has delivered it,
	// from 1 s to 600 s; 0 means 30 s. If the message is not acknowledged by then,
	// it comes again. For a Receiver, see [Receiver.Run].
	Visibility time.Duration

	// BaseURL is the address of the API; "" means https://api.cloudinary.com. A
	// URL with http is refused, unless it names this machine, because the secret
	// would be sent unencrypted.
	BaseURL string

	// HTTPClient makes the requests; nil means one like http.DefaultClient. A
	// request for messages may take 30 s longer than Wait, and an acknowledgment
	// 30 s. So HTTPClient needs no Timeout. If it has one, the Timeout must be
	// longer than Wait. Redirects are not followed.
	HTTPClient *http.Client

	// Logger gets one line for each attempt that failed and will be repeated; nil
	// is silent.
	Logger *slog.Logger
}

// Receive returns messages as soon as there are any. If there are none when Wait
// has passed, it returns none, without an error. Acknowledge each message within
// Visibility, or it comes again.
//
// Errors wrap one of this package's sentinels or
// [cloudinaryhook.ErrMisconfigured]. If ctx ends first, the error wraps
// ctx.Err(). If an attempt failed before that, it wraps the error of the last
// one too.
func (c *Client) Receive(ctx context.Context) ([]Message, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	wait, limit := c.wait(), cmp.Or(c.MaxMessages, defaultMaxMessages)
	query := url.Values{
		"max_messages":       {strconv.Itoa(limit)},
		"wait_seconds":       {seconds(wait)},
		"visibility_timeout": {seconds(cmp.Or(c.Visibility, defaultVisibility))},
	}
	if c.Channel != "" {
		query.Set("channel", c.Channel)
	} else {
		query.Set("batch_id", c.BatchID)
	}
	var answer struct {
		Messages []Message `json:"messages"` // absent if there are none
	}
	err := c.do(ctx, request{http.MethodGet, "?" + query.Encode(), nil, wait + transferTime}, &answer)
	return answer.Messages[:min(len(answer.Messages), limit)], err // the API delivers the others again
}

// Acknowledge makes the API delete messages for good. Call it only when their
// content is safe. It takes any number of handles, and sends up to 100 in a
// request. If one request fails, it still makes the others, and joins their
// errors. These are like those of Receive.
//
// [ErrNotAcknowledged] means that the API did not answer "acked" for some of the
// handles, but another status or none. Cloudinary has not published the other
// statuses. The message may have been acknowledged before, by an attempt whose
// answer was lost, or its visibility timeout may have passed. This does no harm:
// a message that still exists comes again.
func (c *Client) Acknowledge(ctx context.Context, receiptHandles ...string) error {
	if err := c.check(); err != nil {
		return err
	}
	var errs []error
	for handles := range slices.Chunk(receiptHandles, maxMessages) {
		errs = append(errs, c.acknowledge(ctx, handles))
	}
	return errors.Join(errs...)
}

func (c *Client) acknowledge(ctx context.Context, handles []string) error {
	body, err := json.Marshal(map[string][]string{"receipt_handles": handles})
	if err != nil {
		return err
	}
	var answer struct {
		Results []struct {
			Status string `json:"status"`
		} `json:"results"`
	}
	if err := c.do(ctx, request{http.MethodPost, "/ack", body, transferTime}, &answer); err != nil {
		return err
	}
	failed := len(handles)
	for _, result := range answer.Results {
		if result.Status == statusAcked {
			failed--
		}
	}
	if failed > 0 {
		return fmt.Errorf("%w: %d of %d", ErrNotAcknowledged, failed, len(handles))
	}
	return nil
}

// A request is one of the two requests of the API.
type request struct {
	method  string
	suffix  string // of the URL, after …/messages
	body    []byte // nil: none
	timeout time.Duration
}

// do repeats a request until it is answered, or a retry cannot help, or ctx
// ends.
func (c *Client) do(ctx context.Context, r request, answer any) error {
	var last error // of the last attempt that ctx did not interrupt
	for backoff := firstBackoff; ctx.Err() == nil; backoff = min(2*backoff, maxBackoff) {
		retryAfter, err := c.attempt(ctx, r, answer)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			break
		}
		if !errors.Is(err, ErrUnavailable) {
			return err
		}
		last = err
		// Jitter spreads the retries of clients that failed at the same time.
		pause := max(backoff/2+rand.N(backoff/2), retryAfter) //nolint:gosec // nothing depends on it being secret
		writeLog(ctx, c.Logger, slog.LevelWarn, "cloudinary poll request failed",
			slog.String("method", r.method), slog.Any("error", err), slog.Duration("retry_in", pause))
		sleep(ctx, pause)
	}
	if last == nil {
		return ctx.Err()
	}
	return fmt.Errorf("%w: %w", ctx.Err(), last)
}

// attempt makes a request once. An error that wraps ErrUnavailable is
// temporary. Then retryAfter is how long the API asks to wait, or zero.
func (c *Client) attempt(ctx context.Context, r request, answer any) (retryAfter time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, r.timeout)
	defer cancel()
	address := strings.TrimSuffix(cmp.Or(c.BaseURL, defaultBaseURL), "/") +
		"/v2/notifications/" + url.PathEscape(c.CloudName) + "/messages" + r.suffix
	req, err := http.NewRequestWithContext(ctx, r.method, address, bytes.NewReader(r.body))
	if err != nil {
		return 0, fmt.Errorf("%w: Client.BaseURL is malformed", cloudinaryhook.ErrMisconfigured) // err quotes it
	}
	req.SetBasicAuth(c.APIKey, c.APISecret)
	req.Header.Set("Accept", contentTypeAPI)
	req.Header.Set("User-Agent", "cloudinaryhook-poll")
	if r.body != nil {
		req.Header.Set("Content-Type", contentTypeAPI)
	}
	resp, err := c.httpClient().Do(req)
	if err != nil {
		return 0, fmt.Errorf("%w: %w", ErrUnavailable, httperr.WithoutPeerText(err))
	}
	defer resp.Body.Close()
	if err := statusError(resp.StatusCode); err != nil {
		return parseRetryAfter(resp.Header.Get("Retry-After")), err
	}
	return 0, readAnswer(resp.Body, answer)
}

func statusError(status int) error {
	cause := ErrRefused
	switch {
	case status == http.StatusOK:
		return nil
	case status == http.StatusUnauthorized || status == http.StatusForbidden:
		cause = ErrUnauthorized
	case status == http.StatusNotFound:
		cause = ErrNotFound
	case status == http.StatusRequestTimeout || status == http.StatusTooManyRequests || status == statusRateOld || status >= 500:
		cause = ErrUnavailable
	}
	return fmt.Errorf("%w: status %d", cause, status)
}

// readAnswer decodes a JSON object and ignores the Content-Type. It does not
// wrap the JSON error, because that may quote the answer.
func readAnswer(body io.Reader, answer any) error {
	data, err := io.ReadAll(io.LimitReader(body, maxAnswer+1))
	if err != nil {
		return fmt.Errorf("%w: the answer could not be read: %w", ErrUnavailable, httperr.WithoutPeerText(err))
	}
	if len(data) > maxAnswer {
		return ErrAnswerTooLarge
	}
	if !bytes.HasPrefix(bytes.TrimSpace(data), []byte("{")) || json.Unmarshal(data, answer) != nil {
		return fmt.Errorf("%w: the answer is not one of the polling API", ErrUnavailable)
	}
	return nil
}

// parseRetryAfter reads seconds or a date (RFC 9110 §10.2.3).
func parseRetryAfter(value string) time.Duration {
	var pause time.Duration
	if n, err := strconv.Atoi(value); err == nil {
		pause = time.Duration(min(n, int(maxRetryAfter/time.Second))) * time.Second
	} else if date, err := http.ParseTime(value); err == nil {
		pause = time.Until(date)
	}
	return min(max(pause, 0), maxRetryAfter)
}

// httpClient follows no redirect: the API has none, and another host must not
// get the request.
func (c *Client) httpClient() *http.Client {
	var client http.Client
	if c.HTTPClient != nil {
		client = *c.HTTPClient
	}
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &client
}

func (c *Client) wait() time.Duration { return max(cmp.Or(c.Wait, defaultWait), 0) }

// check refuses a Client that cannot work, before it sends anything.
func (c *Client) check() error {
	if c == nil {
		return fmt.Errorf("%w: Client is nil", cloudinaryhook.ErrMisconfigured)
	}
	for _, text := range [][2]string{{"CloudName", c.CloudName}, {"APIKey", c.APIKey}, {"APISecret", c.APISecret}} {
		if what := secrets.Oddity(text[1]); what != "" {
			return fmt.Errorf("%w: Client: %s %s", cloudinaryhook.ErrMisconfigured, text[0], what)
		}
	}
	problem := ""
	switch wait, visibility := c.wait(), cmp.Or(c.Visibility, defaultVisibility); {
	case (c.Channel == "") == (c.BatchID == ""):
		problem = "exactly one of Channel and BatchID is required"
	case c.MaxMessages < 0 || c.MaxMessages > maxMessages:
		problem = "MaxMessages is not between 0 and 100"
	case wait > maxWait:
		problem = "Wait is longer than 60 s"
	case visibility < time.Second || visibility > maxVisibility:
		problem = "Visibility is not between 1 s and 600 s"
	case c.HTTPClient != nil && c.HTTPClient.Timeout > 0 && c.HTTPClient.Timeout <= wait:
		problem = "HTTPClient.Timeout is not longer than Wait: it would cut each request off"
	case !isSafe(cmp.Or(c.BaseURL, defaultBaseURL)):
		problem = "BaseURL is not a URL with https and a host"
	default:
		return nil
	}
	return fmt.Errorf("%w: Client: %s", cloudinaryhook.ErrMisconfigured, problem)
}

func isSafe(baseURL string) bool {
	u, err := url.Parse(baseURL)
	if err != nil || u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return false
	}
	local := u.Hostname() == "localhost" || net.ParseIP(u.Hostname()).IsLoopback()
	return u.Scheme == "https" || u.Scheme == "http" && local
}

// seconds rounds up: a visibility timeout that is too short makes duplicates.
func seconds(d time.Duration) string {
	return strconv.FormatInt(int64((d+time.Second-1)/time.Second), 10)
}

// writeLog contains a panic of the Logger, which must not end the process.
func writeLog(ctx context.Context, logger *slog.Logger, level slog.Level, message string, attrs ...slog.Attr) {
	if logger != nil {
		defer func() { _ = recover() }()
		logger.LogAttrs(ctx, level, message, attrs...)
	}
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
