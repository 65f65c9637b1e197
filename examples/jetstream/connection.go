package main

import (
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
)

// A connection is with one node of the cluster at a time.
type connection struct {
	*nats.Conn
	left atomic.Uint64 // how many were left, as number counts them
}

// connect joins the cluster by any of the nodes in the comma-separated urls.
func connect(c clusterConfig, name string, logger *slog.Logger) (*connection, error) {
	if err := checkURLs(c.urls); err != nil {
		return nil, err
	}
	options := []nats.Option{
		nats.Name("cloudinaryhook " + name),
		nats.MaxReconnects(-1),
		nats.PingInterval(10 * time.Second), // a node that is silent is left after two of these
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil { // and not because it was closed or left
				logger.Warn("disconnected from the cluster", "error", err)
			}
		}),
		nats.ReconnectHandler(func(nc *nats.Conn) {
			logger.Info("reconnected to the cluster", "node", nc.ConnectedServerName())
		}),
	}
	if c.credentials != "" {
		options = append(options, nats.UserCredentials(c.credentials))
	}
	if c.rootCAs != "" {
		options = append(options, nats.RootCAs(c.rootCAs))
	}
	nc, err := nats.Connect(c.urls, options...)
	if err != nil {
		return nil, fmt.Errorf("connecting to the cluster: %w", err)
	}
	return &connection{Conn: nc}, nil
}

// checkURLs refuses what is not the URL of a node, without quoting it: a password
// may be in it. NATS's own error quotes it. Where a password has a "/", "?" or "#"
// in it, a part of it would pass for a port or a host, which other errors name.
func checkURLs(urls string) error {
	for i, text := range strings.Split(urls, ",") {
		if text = strings.TrimSpace(text); !strings.Contains(text, "://") {
			text = "nats://" + text
		}
		u, err := url.Parse(text)
		if err != nil || u.Hostname() == "" || strings.Trim(u.Path, "/")+u.RawQuery+u.Fragment != "" {
			return fmt.Errorf("-nats: URL %d is not of the form nats://HOST:PORT; a password's special characters are written as %%XX", i+1)
		}
	}
	return nil
}

// number counts nodes that the connection was with before this one.
func (c *connection) number() uint64 { return c.Stats().Reconnects }

// leave goes to another node, unless that has happened since the connection had
// this number. A node that was cut off from the others still talks to its
// clients, and cannot serve them. Of all who wait for it, the first to lose
// patience leaves.
func (c *connection) leave(number uint64) {
	if left := c.left.Load(); left <= number && c.left.CompareAndSwap(left, number+1) {
		_ = c.ForceReconnect() // fails if closed, and then so does what follows
	}
}
