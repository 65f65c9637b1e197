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
	"github.com/cloudinaryhook/cloudinaryhook/internal/secrets"
)

const (
	secretVariable = secrets.APISecret
	keyVariable    = secrets.TokenKey
	previousSuffix = secrets.PreviousSuffix

	// A delivery must be known for as long as it could be replayed: the replay
	// window of two hours, and some for clocks that disagree.
	minKeep = 3 * time.Hour
)

// config is what flags and environment say.
type config struct {
	addr    string
	admin   string // address of the pages, or "": they are at addr too
	public  bool   // others may see the pages
	db      string
	keep    time.Duration
	giveUp  time.Duration
	drain   time.Duration // how long it is not ready before it takes no new connections
	log     service.Log
	demo    bool
	secrets []string
	keys    [][]byte

	temporary string // folder of the demo's database, or ""
}

func parseConfig(args []string, getenv func(string) string, stderr io.Writer) (*config, error) {
	c := new(config)
	flags := c.flags(stderr)
	if err := flags.Parse(args); err != nil {
		return nil, err
	}
	if flags.NArg() > 0 {
		return nil, errors.New("there are arguments without a flag") // not said: it may be a database's URL
	}
	given := false
	flags.Visit(func(f *flag.Flag) { given = given || f.Name == "db" })
	if err := c.readSecrets(getenv, given); err != nil {
		return nil, err
	}
	if c.keep < minKeep {
		return nil, fmt.Errorf("-keep is %v, and under %v a pruned notification could be replayed", c.keep, minKeep)
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
	flags.SetOutput(stderr)
	flags.Usage = func() {
		fmt.Fprintf(stderr, "usage: gallery [flags]\n\nEnvironment: %s, and %s with 32 bytes at least. While one is\nrotated, the same name with %s at its end has the old one. With %s at its end\na name has a file that holds the value. Without both it is a demo.\n\n", secretVariable, keyVariable, previousSuffix, secrets.FileSuffix)
		flags.PrintDefaults()
	}
	flags.StringVar(&c.addr, "addr", "127.0.0.1:8080", "`address` to listen on")
	flags.StringVar(&c.admin, "admin", "", "`address` for the pages, the API and /metrics; -addr then has the hook and the health checks alone")
	flags.BoolVar(&c.public, "public", false, "show the pages on an address that others can reach, under any host name; they have no login")
	flags.StringVar(&c.db, "db", "gallery.db", "SQLite database `file`, or postgres:// URL (password better in PGPASSWORD); a demo has a temporary file unless this is given")
	flags.BoolVar(&c.demo, "demo", false, "run a demo, with secrets of its own, on the database that -db names")
	flags.DurationVar(&c.keep, "keep", 30*24*time.Hour, "how long completed deliveries are kept")
	flags.DurationVar(&c.giveUp, "give-up", 7*24*time.Hour, "how long a delivery that fails is tried again; then it is rejected; 0: for ever")
	flags.DurationVar(&c.drain, "drain", 0, "how long to go on answering after SIGTERM, while /readyz already says no; give a load balancer time to notice")
	c.log.Register(flags)
	return flags
}

// readSecrets reads those of now and, while they are rotated, those of before. It
// makes them up for a demo. Where a database was named, a demo must be asked for:
// secrets that are missing by mistake must not put made-up images among real ones.
func (c *config) readSecrets(getenv func(string) string, named bool) error {
	secret, err := secrets.Lookup(getenv, secretVariable)
	key, keyErr := secrets.Lookup(getenv, keyVariable)
	hasSecret, hasKey := secret.Value != "", key.Value != ""
	switch {
	case err != nil || keyErr != nil:
		return errors.Join(err, keyErr)
	case !hasSecret && !hasKey && named && !c.demo:
		return fmt.Errorf("%s and %s are not set: set both, or add -demo if -db may be filled with made-up images", secretVariable, keyVariable)
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
	keys, err := secrets.Required(getenv, keyVariable)
	for _, key := range keys {
		c.keys = append(c.keys, []byte(key))
	}
	return err
}

// checkAddresses keeps other people's data where nobody else can see it, unless
// told otherwise; and a demo, which hands out its secrets, in any case. With
// -admin, others may reach -addr: nothing is to be seen there.
func (c *config) checkAddresses() error {
	for _, given := range []struct {
		flag, addr string
		pages      bool
	}{{"-addr", c.addr, c.admin == ""}, {"-admin", c.admin, true}} {
		if given.addr == "" && given.flag == "-admin" {
			continue
		}
		if _, _, err := net.SplitHostPort(given.addr); err != nil {
			return fmt.Errorf("%s: %w", given.flag, err)
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

// isLoopback says whether a host, with or without a port, is this machine alone.
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
