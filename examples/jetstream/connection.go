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
	left atomic.Uint64 // how many times leave has changed the node, counted like number
}

// connect connects to one of the nodes in the comma-separated c.urls.
func connect(c clusterConfig, name string, logger *slog.Logger) (*connection, error) {
	if err := checkURLs(c.urls); err != nil {
		return nil, err
	}
	options := []nats.Option{
		nats.Name("cloudinaryhook " + name),
		nats.MaxReconnects(-1),
		nats.PingInterval(10 * time.Second), // after two pings without an answer, the client leaves the node
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil { // nil if this program closed it or left the node
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

// checkURLs refuses a text that is not the URL of a node. Its error does not
// quote the text, because it may hold a password. NATS's own error does quote
// it. If a password contains "/", "?" or "#", a part of it would look like a
// port or a host, and other errors would print that.
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

// number returns how many times the connection has changed to another node.
func (c *connection) number() uint64 { return c.Stats().Reconnects }

// leave changes to another node, unless the connection has changed since it had
// this number. A node that is cut off from the other nodes still talks to its
// clients, but cannot serve them. Several callers may wait for the node at the
// same time; only the first of them changes.
func (c *connection) leave(number uint64) {
	if left := c.left.Load(); left <= number && c.left.CompareAndSwap(left, number+1) {
		_ = c.ForceReconnect() // fails only if the connection is closed; then later calls fail too
	}
}
