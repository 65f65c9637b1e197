package main

import (
	"bytes"
	"context"
	"crypto"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/cloudinaryhook/cloudinaryhook/cloudinaryhooktest"
	"github.com/cloudinaryhook/cloudinaryhook/internal/sender"
)

const (
	secretVariable = "CLOUDINARY_API_SECRET" //nolint:gosec // a variable's name
	keyVariable    = "GALLERY_TOKEN_KEY"     // as the gallery's, so that one environment serves both
	claimsVariable = "SEND_CLAIMS"
)

// config is what flags and environment say.
type config struct {
	sender  sender.Sender
	claims  jwt.MapClaims
	body    func() ([]byte, error)
	client  *http.Client
	count   int
	workers int
	retry   bool
	minute  time.Duration
	wait    func(context.Context, time.Duration) error
	print   string
}

func parseConfig(args []string, getenv func(string) string, stdin io.Reader, stderr io.Writer) (*config, error) {
	flags := flag.NewFlagSet("send", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() { usage(flags) }
	c := &config{wait: sleep}
	flags.StringVar(&c.sender.Endpoint, "url", "http://127.0.0.1:8080/api/v1/cloudinary", "the receiver's `URL`, without a token")
	flags.StringVar(&c.sender.Secret, "secret", "", "API `secret`; default: the first of $"+secretVariable)
	key := flags.String("key", "", "the token's `key`; default: $"+keyVariable)
	claims := flags.String("claims", getenv(claimsVariable), "the token's claims, as `JSON`; default: $"+claimsVariable+", or an organization and an album")
	tokenless := flags.Bool("tokenless", false, "send no token")
	sha256 := flags.Bool("sha256", false, "sign with SHA-256 instead of SHA-1")
	same := flags.Bool("same", false, "with -n, send one notification again and again, instead of many")
	flags.IntVar(&c.count, "n", 1, "send `n` notifications")
	flags.IntVar(&c.workers, "c", 1, "send `n` of them at the same time")
	flags.BoolVar(&c.retry, "retry", false, "when it is not accepted, send it again after 3, 6 and 9 minutes, as Cloudinary does")
	flags.DurationVar(&c.minute, "minute", time.Minute, "the `duration` of a minute of -retry")
	timeout := flags.Duration("timeout", 20*time.Second, "the `duration` to wait for an answer; Cloudinary waits 20 s")
	flags.StringVar(&c.print, "print", "", "print the request instead of sending it; the one `format` is \"curl\", a command, which holds a token and a signature")
	flags.DurationVar(&c.sender.Age, "age", 0, "sign as if it were this `duration` ago; receivers take 2h, and 5m of the future (-5m)")
	if err := flags.Parse(args); err != nil {
		return nil, err
	}
	if *sha256 {
		c.sender.Hash = crypto.SHA256
	}
	if err := c.check(flags.NArg()); err != nil {
		return nil, err
	}
	c.client = newClient(*timeout, c.workers)
	if err := c.readSecrets(*key, *tokenless, getenv); err != nil {
		return nil, err
	}
	if err := c.readClaims(*claims); err != nil {
		return nil, err
	}
	return c, c.readBody(flags.Arg(0), *same, stdin)
}

func usage(flags *flag.FlagSet) {
	fmt.Fprintf(flags.Output(), "usage: send [flags] TYPE|NAME|FILE|-\n\n")
	flags.PrintDefaults()
	fmt.Fprintf(flags.Output(), "\nTypes: upload and eager. Names: %s.\n", strings.Join(names(), ", "))
}

func (c *config) check(arguments int) error {
	switch {
	case arguments != 1:
		return errors.New("give one of: a type, as upload; the name of a golden body; a file; - for standard input. Flags come before it; -h lists all")
	case c.count < 1 || c.workers < 1 || c.minute < 0:
		return errors.New("-n and -c are 1 at least, and -minute is not negative")
	case c.print != "" && c.print != "curl":
		return errors.New(`-print knows "curl" only`)
	case c.print != "" && (c.count > 1 || c.retry):
		return errors.New("-print writes one request: leave out -n and -retry")
	}
	return nil
}

// newClient follows no redirect: nobody knows that Cloudinary would.
func newClient(timeout time.Duration, connections int) *http.Client {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = connections
	return &http.Client{
		Timeout:       timeout,
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

func (c *config) readSecrets(key string, tokenless bool, getenv func(string) string) error {
	if c.sender.Secret == "" {
		newest, _, _ := strings.Cut(getenv(secretVariable), ",") // the gallery's is a list
		c.sender.Secret = strings.TrimSpace(newest)
	}
	if c.sender.Secret == "" {
		return fmt.Errorf("no API secret: set %s to the receiver's", secretVariable)
	}
	if tokenless {
		return nil
	}
	if key == "" {
		key = getenv(keyVariable)
	}
	if key == "" {
		return fmt.Errorf("no token key: set %s to the receiver's, or give -tokenless", keyVariable)
	}
	c.sender.Key = []byte(key)
	return nil
}

func (c *config) readClaims(text string) error {
	if text == "" {
		text = `{"organization_id":"test-organization","album_id":"test-album"}`
	}
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.UseNumber() // an id above 2^53 stays exact
	if err := decoder.Decode(&c.claims); err != nil || c.claims == nil || decoder.More() {
		return errors.New(`-claims: not a JSON object, as {"album_id":"7"}`)
	}
	if _, ok := c.claims["exp"]; !ok {
		c.claims["exp"] = time.Now().Add(2 * time.Hour).Unix()
	}
	return nil
}

// readBody finds out what an argument names. Golden bodies come with fresh IDs;
// what the user brings is sent as it is.
func (c *config) readBody(name string, same bool, stdin io.Reader) error {
	typical := map[string]string{"upload": "upload-simple", "eager": "eager-done"}
	if golden, ok := typical[name]; ok {
		name = golden
	}
	c.body = func() ([]byte, error) { return sender.FreshBody(name, "") }
	if name == "-" {
		return c.keepBody(io.ReadAll(stdin))
	}
	body, err := c.body()
	if err == nil && !same {
		return nil
	}
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrInvalid) {
		body, err = os.ReadFile(name) //nolint:gosec // the user names a file
		if errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("%q is neither a golden body nor a file; -h lists the bodies", name)
		}
	}
	return c.keepBody(body, err)
}

func (c *config) keepBody(body []byte, err error) error {
	c.body = func() ([]byte, error) { return bytes.Clone(body), nil }
	return err
}

func (c *config) notification() (*sender.Notification, error) {
	body, err := c.body()
	if err != nil {
		return nil, err
	}
	return c.sender.Sign(body, c.claims)
}

// names lists the golden bodies.
func names() []string {
	files, _ := fs.Glob(cloudinaryhooktest.Bodies(), "*.json") // the pattern is well formed
	for i, file := range files {
		files[i] = strings.TrimSuffix(file, ".json")
	}
	return files
}
