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
	"strings"
	"time"

	"github.com/cloudinaryhook/cloudinaryhook/examples/internal/service"
	"github.com/cloudinaryhook/cloudinaryhook/internal/flagset"
	"github.com/cloudinaryhook/cloudinaryhook/internal/secrets"
)

const (
	secretVariable = secrets.APISecret
	keyVariable    = secrets.TokenKey
	previousSuffix = secrets.PreviousSuffix

	// A delivery must be known as long as somebody could replay it: for the replay
	// window of two hours, and a little longer because clocks differ.
	minKeep = 3 * time.Hour
)

// config holds the settings from flags and environment.
type config struct {
	addr    string
	admin   string // address of the pages; "": they are at addr too
	public  bool   // others may see the pages
	db      string
	keep    time.Duration
	giveUp  time.Duration
	drain   time.Duration // how long the program is not ready before it stops taking connections
	log     service.Log
	demo    bool
	secrets []string
	keys    [][]byte

	temporary string // folder of the demo's database; "": none
}

func parseConfig(args []string, getenv func(string) string, stderr io.Writer) (*config, error) {
	c := new(config)
	flags := c.flags(stderr)
	if err := flagset.Parse(flags, args, stderr); err != nil {
		return nil, err
	}
	if flags.NArg() > 0 {
		return nil, errors.New("there are arguments without a flag") // not quoted: it may be a database's URL
	}
	given := false
	flags.Visit(func(f *flag.Flag) { given = given || f.Name == "db" })
	if err := c.readSecrets(getenv, given); err != nil {
		return nil, err
	}
	if c.keep < minKeep {
		return nil, fmt.Errorf("-keep is %v, but it must be at least %v: after less time a pruned notification could be replayed", c.keep, minKeep)
	}
	if c.giveUp < 0 || c.drain < 0 {
		return nil, errors.New("-give-up and -drain cannot be negative")
	}
	if err := c.checkAddresses(); err != nil {
		return nil, err
	}
	if c.demo && !given {
		folder, err := os.MkdirTemp("", "gallery")
		if err != nil {
			return nil, err
		}
		c.temporary, c.db = folder, filepath.Join(folder, "gallery.db")
	}
	return c, nil
}

func (c *config) flags(stderr io.Writer) *flag.FlagSet {
	flags := flag.NewFlagSet("gallery", flag.ContinueOnError)
	flags.Usage = func() {
		fmt.Fprintf(stderr, "usage: gallery [flags]\n\nEnvironment: %s, and %s with at least 32 bytes. While one is\nrotated, the same name with %s at its end holds the old value. The same name with\n%s at its end names a file that holds the value. If both are missing, it is a demo.\n\n", secretVariable, keyVariable, previousSuffix, secrets.FileSuffix)
		flags.PrintDefaults()
	}
	flags.StringVar(&c.addr, "addr", "127.0.0.1:8080", "`address` to listen on")
	flags.StringVar(&c.admin, "admin", "", "`address` for the pages, the API and /metrics; -addr then has only the hook and the health checks")
	flags.BoolVar(&c.public, "public", false, "show the pages on an address that others can reach, under any host name; they have no login")
	flags.StringVar(&c.db, "db", "gallery.db", "SQLite database `file`, or postgres:// URL (better with the password in PGPASSWORD); a demo uses a temporary file unless this is given")
	flags.BoolVar(&c.demo, "demo", false, "run a demo, with secrets of its own, on the database that -db names")
	flags.DurationVar(&c.keep, "keep", 30*24*time.Hour, "how long completed deliveries are kept")
	flags.DurationVar(&c.giveUp, "give-up", 7*24*time.Hour, "how long a failing delivery is tried again before it is rejected; 0: for ever")
	flags.DurationVar(&c.drain, "drain", 0, "how long to go on answering after SIGTERM, while /readyz already answers 503; give a load balancer time to notice")
	c.log.Register(flags)
	return flags
}

// readSecrets reads the current secrets and, while they are rotated, the old
// ones. For a demo it makes new ones. If the user names a database, a demo
// needs -demo: if secrets are missing by mistake, made-up images must not get
// among real ones.
func (c *config) readSecrets(getenv func(string) string, named bool) error {
	secret, err := secrets.Lookup(getenv, secretVariable)
	key, keyErr := secrets.Lookup(getenv, keyVariable)
	hasSecret, hasKey := secret.Value != "", key.Value != ""
	switch {
	case err != nil || keyErr != nil:
		return errors.Join(err, keyErr)
	case !hasSecret && !hasKey && named && !c.demo:
		return fmt.Errorf("%s and %s are not set: set both, or add -demo if you want made-up images in -db", secretVariable, keyVariable)
	case !hasSecret && !hasKey:
		c.demo = true
		c.secrets, c.keys = []string{rand.Text()}, [][]byte{[]byte(rand.Text() + rand.Text())}
		return nil
	case c.demo:
		return fmt.Errorf("-demo makes up its own secrets: unset %s and %s", secretVariable, keyVariable)
	case !hasSecret:
		return fmt.Errorf("%s is set and %s is not: set both, or neither for a demo", keyVariable, secretVariable)
	case !hasKey:
		return fmt.Errorf("%s is set and %s is not: set both, or neither for a demo", secretVariable, keyVariable)
	}
	if c.secrets, err = secrets.Required(getenv, secretVariable); err != nil {
		return err
	}
	c.keys, err = secrets.Keys(getenv)
	return err
}

// checkAddresses makes sure that only this machine can see the pages, unless
// -public is set: they show other people's data. A demo prints its secrets, so
// it never listens for others. With -admin, others may reach -addr, because it
// has no pages.
func (c *config) checkAddresses() error {
	for _, given := range []struct {
		flag, addr string
		pages      bool
	}{{"-addr", c.addr, c.admin == ""}, {"-admin", c.admin, true}} {
		if given.addr == "" && given.flag == "-admin" {
			continue
		}
		if _, _, err := net.SplitHostPort(given.addr); err != nil {
			return fmt.Errorf("%s needs a host and a port, such as 127.0.0.1:8080", given.flag) // err quotes the value, which may be a database's URL
		}
		switch {
		case isLoopback(given.addr):
		case c.demo:
			return fmt.Errorf("%s: a demo listens only on loopback addresses, such as 127.0.0.1:8080", given.flag)
		case given.pages && !c.public:
			return fmt.Errorf("%s: others can reach this address, and the pages have no login; add -public if you want that", given.flag)
		}
	}
	return nil
}

// isLoopback reports whether a host, with or without a port, is this machine.
func isLoopback(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	ip := net.ParseIP(strings.Trim(host, "[]"))
	return strings.EqualFold(host, "localhost") || ip != nil && ip.IsLoopback()
}

// cleanUp removes the demo's temporary database.
func (c *config) cleanUp() {
	if c.temporary != "" {
		_ = os.RemoveAll(c.temporary) //nolint:gosec // a folder that parseConfig has made
	}
}
