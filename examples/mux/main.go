// Mux mounts the hook on every common router and framework, behind the usual
// middleware. Each of them has its own file. docs/routers.md lists the
// differences.
//
//	CLOUDINARY_API_SECRET=… CLOUDINARYHOOK_TOKEN_KEY=… go run ./examples/mux chi
//
// Its store is in memory, so a 201 does not mean that the notification is
// durable. examples/gallery has a durable store.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/cloudinaryhook/cloudinaryhook"
	"github.com/cloudinaryhook/cloudinaryhook/cloudinaryhooktest"
	"github.com/cloudinaryhook/cloudinaryhook/internal/secrets"
)

const (
	hookPath = "/api/v1/cloudinary"

	// bodyLimit is the limit of the app's middleware. It is above the hook's own
	// limit of 4 MiB, so that the hook decides and answers.
	bodyLimit = 8 << 20
)

// A server is an *http.Server, or a framework's own server.
type server interface {
	Serve(l net.Listener) error
	Shutdown(ctx context.Context) error
}

// A router makes an app with the hook. The app writes its access log to log.
type router struct {
	name string
	new  func(hook http.Handler, log io.Writer) server
}

var routers = []router{
	{"net/http", newNetHTTP},
	{"net/http with TimeoutHandler", newNetHTTPWithTimeout},
	{"chi", newChi},
	{"gorilla", newGorilla},
	{"echo", newEcho},
	{"gin", newGin},
	{"fiber", newFiber},
}

func main() {
	if err := run(os.Args[1:], os.Stderr); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "mux:", err)
		os.Exit(1)
	}
}

func run(args []string, stderr io.Writer) error {
	flags := flag.NewFlagSet("mux", flag.ContinueOnError)
	flags.SetOutput(stderr)
	addr := flags.String("addr", "127.0.0.1:8080", "address to listen on")
	flags.Usage = func() {
		fmt.Fprintf(stderr, "usage: mux [flags] ROUTER\n\nRouters: %s.\nEnvironment: CLOUDINARY_API_SECRET, and CLOUDINARYHOOK_TOKEN_KEY (32 bytes at least).\n\nFlags:\n", routerNames())
		flags.PrintDefaults()
	}
	if err := flags.Parse(args); err != nil {
		return err
	}
	i := slices.IndexFunc(routers, func(r router) bool { return flags.NArg() == 1 && flags.Arg(0) == r.name })
	if i < 0 {
		return errors.New("give one of: " + routerNames())
	}
	apiSecrets, err := secrets.Required(os.Getenv, secrets.APISecret)
	if err != nil {
		return err
	}
	keys, err := secrets.Keys(os.Getenv)
	if err != nil {
		return err
	}
	hook, err := cloudinaryhook.NewHandler(cloudinaryhook.Config{
		Signature: &cloudinaryhook.SignatureVerifier{Secrets: apiSecrets},
		Token:     &cloudinaryhook.TokenVerifier{Keys: keys, Require: []string{"album_id"}},
		Processor: &cloudinaryhook.Processor{Store: new(cloudinaryhooktest.MemoryStore), Images: cloudinaryhook.ImageCreatorFunc(createImage)},
		Logger:    slog.Default(),
	})
	if err != nil {
		return err
	}
	return serve(routers[i].new(hook, stderr), *addr)
}

func routerNames() string {
	var names []string
	for _, r := range routers {
		names = append(names, fmt.Sprintf("%q", r.name))
	}
	return strings.Join(names, ", ")
}

func createImage(_ context.Context, img *cloudinaryhook.Image) error {
	fmt.Println("album", img.Claims.AlbumID, "has", img.PublicID)
	return nil
}

func serve(s server, addr string) error {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	fmt.Printf("mux: http://%s%s\n", l.Addr(), hookPath)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second Ctrl-C does not wait for current requests
	failed := make(chan error, 1)
	go func() { failed <- s.Serve(l) }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	return s.Shutdown(ctx)
}

// newServer sets a ReadTimeout: behind middleware whose ResponseWriter cannot
// be unwrapped, the hook cannot set its own read deadline.
func newServer(h http.Handler) *http.Server {
	return &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 15 * time.Second}
}
