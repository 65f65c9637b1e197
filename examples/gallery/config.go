package main

import (
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

const (
	secretVariable = "CLOUDINARY_API_SECRET" //nolint:gosec // a variable's name
	keyVariable    = "GALLERY_TOKEN_KEY"

	// A delivery must be known for as long as it could be replayed: the replay
	// window of two hours, and some for clocks that disagree.
	minKeep = 3 * time.Hour
)

// config is what flags and environment say.
type config struct {
	addr     string
	db       string
	keep     time.Duration
	demo     bool
	secrets  []string
	tokenKey []byte

	temporary string // folder of the demo's database, or ""
}

func parseConfig(args []string, getenv func(string) string, stderr io.Writer) (*config, error) {
	flags := flag.NewFlagSet("gallery", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() {
		fmt.Fprintf(stderr, "usage: gallery [flags]\n\nEnvironment: %s (comma-separated, the newest first) and %s (32 bytes at least);\nwith neither, a demo.\n\n", secretVariable, keyVariable)
		flags.PrintDefaults()
	}
	c := new(config)
	flags.StringVar(&c.addr, "addr", "127.0.0.1:8080", "`address` to listen on")
	flags.StringVar(&c.db, "db", "gallery.db", "SQLite database `file`, or postgres:// URL (password better in PGPASSWORD); a demo has a temporary file unless this is given")
	flags.DurationVar(&c.keep, "keep", 30*24*time.Hour, "how long completed deliveries are kept")
	public := flags.Bool("public", false, "listen on an address that others can reach; the page has no login")
	if err := flags.Parse(args); err != nil {
		return nil, err
	}
	if flags.NArg() > 0 {
		return nil, errors.New("there are arguments that belong to no flag") // not said: it may be a database's URL
	}
	if err := c.readSecrets(getenv(secretVariable), getenv(keyVariable)); err != nil {
		return nil, err
	}
	if c.keep < minKeep {
		return nil, fmt.Errorf("-keep is %v, and under %v a pruned notification could be replayed", c.keep, minKeep)
	}
	if err := c.checkAddress(*public); err != nil {
		return nil, err
	}
	given := false
	flags.Visit(func(f *flag.Flag) { given = given || f.Name == "db" })
	if c.demo && !given {
		folder, err := os.MkdirTemp("", "gallery")
		if err != nil {
			return nil, err
		}
		c.temporary, c.db = folder, filepath.Join(folder, "gallery.db")
	}
	return c, nil
}

func (c *config) readSecrets(secrets, key string) error {
	switch {
	case secrets == "" && key == "":
		c.demo = true
		c.secrets, c.tokenKey = []string{rand.Text()}, []byte(rand.Text()+rand.Text())
		return nil
	case secrets == "":
		return fmt.Errorf("%s is set and %s is not: set both, or neither for a demo", keyVariable, secretVariable)
	case key == "":
		return fmt.Errorf("%s is set and %s is not: set both, or neither for a demo", secretVariable, keyVariable)
	case len(key) < 32:
		return fmt.Errorf("%s has %d bytes, fewer than 32", keyVariable, len(key))
	}
	for secret := range strings.SplitSeq(secrets, ",") {
		c.secrets = append(c.secrets, strings.TrimSpace(secret))
	}
	if slices.Contains(c.secrets, "") {
		return fmt.Errorf("%s has an empty secret between its commas", secretVariable)
	}
	c.tokenKey = []byte(key)
	return nil
}

// checkAddress keeps other people's data where nobody else can see it, unless
// told otherwise; and a demo, which hands out its secrets, in any case.
func (c *config) checkAddress(public bool) error {
	host, _, err := net.SplitHostPort(c.addr)
	if err != nil {
		return fmt.Errorf("-addr: %w", err)
	}
	ip := net.ParseIP(host)
	switch {
	case host == "localhost" || ip != nil && ip.IsLoopback():
		return nil
	case c.demo:
		return errors.New("-addr: a demo listens on loopback addresses only, as 127.0.0.1:8080")
	case !public:
		return errors.New("-addr: others can reach this address, and the page has no login; add -public if that is meant")
	}
	return nil
}

// cleanUp removes the demo's temporary database.
func (c *config) cleanUp() {
	if c.temporary != "" {
		_ = os.RemoveAll(c.temporary) //nolint:gosec // a folder that parseConfig has made
	}
}
