package main

import (
	"bytes"
	"context"
	"crypto"
	"crypto/sha1" //nolint:gosec // Cloudinary's default
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime/pprof"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/cloudinary/cloudinary-go/v2"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/golang-jwt/jwt/v5"

	"github.com/cloudinaryhook/cloudinaryhook"
	"github.com/cloudinaryhook/cloudinaryhook/cloudinaryhooktest"
)

var serverNames = []string{"empty", "primitives", "cloudinaryhook", "cloudinary-go", "naive"}

// newServer returns one of the handlers. None of them stores anything: bench
// measures a request up to the app's own work.
func newServer(name string) (http.Handler, error) {
	switch name {
	case "empty":
		return http.HandlerFunc(empty), nil
	case "primitives":
		return newPrimitives(), nil
	case "cloudinaryhook":
		return newHook()
	case "cloudinary-go":
		return newSDK()
	case "naive":
		return http.HandlerFunc(naive), nil
	}
	return nil, fmt.Errorf("no server is called %q", name)
}

// serve prints its URL, with a port that the system has chosen, and answers
// until stdin ends. So the server also ends if its parent process is killed.
func serve(name, profile string, stdin io.Reader, stdout io.Writer) error {
	handler, err := newServer(name)
	if err != nil {
		return err
	}
	if profile != "" {
		file, err := os.Create(profile) //nolint:gosec // the user's choice
		if err != nil {
			return err
		}
		defer file.Close()
		if err := pprof.StartCPUProfile(file); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second}
	go func() {
		_, _ = io.Copy(io.Discard, stdin)
		_ = server.Close()
	}()
	fmt.Fprintf(stdout, "http://%s/hook\n", listener.Addr())
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// empty is the lower limit: the cost of net/http alone.
func empty(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	w.WriteHeader(http.StatusCreated)
}

// newPrimitives does only the steps that every handler needs: the digest of the
// signature, golang-jwt with one parser and a type, the digest for the
// delivery's ID, and one pass over the JSON. It decodes nothing.
func newPrimitives() http.Handler {
	parser := jwt.NewParser(jwt.WithValidMethods([]string{"HS256"}))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var c claims
		token := strings.TrimPrefix(r.URL.RawQuery, "token=")
		if _, err := parser.ParseWithClaims(token, &c, key); err != nil || c.AlbumID == "" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		body := make([]byte, max(0, r.ContentLength))
		if _, err := io.ReadFull(r.Body, body); err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		timestamp := r.Header.Get(cloudinaryhook.TimestampHeader)
		signature := cloudinaryhook.Sign(crypto.SHA1, body, timestamp, cloudinaryhooktest.DefaultSecret)
		if !recent(timestamp) || signature != r.Header.Get(cloudinaryhook.SignatureHeader) {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		sha256.Sum256(body)
		if !walk(body) {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		w.WriteHeader(http.StatusCreated)
	})
}

// walk reads the names at the top level and skips the values.
func walk(body []byte) (ok bool) {
	dec := jsontext.NewDecoder(bytes.NewBuffer(body), jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
	_, err := dec.ReadToken()
	for err == nil && dec.PeekKind() == '"' {
		_, _ = dec.ReadValue()
		_, err = dec.ReadValue()
	}
	return err == nil
}

func recent(timestamp string) bool {
	seconds, err := strconv.ParseInt(timestamp, 10, 64)
	return err == nil && time.Since(time.Unix(seconds, 0)) <= 2*time.Hour
}

func newHook() (http.Handler, error) {
	return cloudinaryhook.NewHandler(cloudinaryhook.Config{
		Signature: &cloudinaryhook.SignatureVerifier{Secrets: []string{cloudinaryhooktest.DefaultSecret}},
		Token:     &cloudinaryhook.TokenVerifier{Keys: [][]byte{[]byte(cloudinaryhooktest.DefaultKey)}, Require: []string{"album_id"}},
		Processor: &cloudinaryhook.Processor{
			Store:  new(countingStore),
			Images: cloudinaryhook.ImageCreatorFunc(func(context.Context, *cloudinaryhook.Image) error { return nil }),
		},
	})
}

type countingStore struct{ saved, completed atomic.Int64 }

func (s *countingStore) Save(context.Context, *cloudinaryhook.Delivery) (cloudinaryhook.State, error) {
	s.saved.Add(1)
	return cloudinaryhook.StateNew, nil
}

func (s *countingStore) Complete(context.Context, string, error) error {
	s.completed.Add(1)
	return nil
}

// upload has the fields that an app would decode with encoding/json.
type upload struct {
	NotificationType string    `json:"notification_type"`
	RequestID        string    `json:"request_id"`
	PublicID         string    `json:"public_id"`
	Version          int64     `json:"version"`
	Width            int       `json:"width"`
	Height           int       `json:"height"`
	Format           string    `json:"format"`
	ResourceType     string    `json:"resource_type"`
	CreatedAt        time.Time `json:"created_at"`
	Bytes            int64     `json:"bytes"`
	Type             string    `json:"type"`
	URL              string    `json:"url"`
	SecureURL        string    `json:"secure_url"`
	Tags             []string  `json:"tags"`
}

type claims struct {
	jwt.RegisteredClaims
	OrganizationID string `json:"organization_id"`
	AlbumID        string `json:"album_id"`
	UserID         string `json:"user_id"`
}

func key(*jwt.Token) (any, error) { return []byte(cloudinaryhooktest.DefaultKey), nil }

// newSDK uses Cloudinary's own package: its verifier, golang-jwt with one
// parser and a type, and encoding/json with a type.
func newSDK() (http.Handler, error) {
	sdk, err := cloudinary.NewFromParams("cloud", "key", cloudinaryhooktest.DefaultSecret)
	if err != nil {
		return nil, err
	}
	parser := jwt.NewParser(jwt.WithValidMethods([]string{"HS256"}))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var c claims
		if _, err := parser.ParseWithClaims(r.URL.Query().Get("token"), &c, key); err != nil || c.AlbumID == "" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		timestamp, err := strconv.ParseInt(r.Header.Get(cloudinaryhook.TimestampHeader), 10, 64)
		if err != nil || !sdk.Upload.VerifyNotificationSignature(string(body), timestamp, r.Header.Get(cloudinaryhook.SignatureHeader), 0) {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		if json.Unmarshal(body, new(upload)) != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		w.WriteHeader(http.StatusCreated)
	}), nil
}

// naive is a first attempt, as many people would write it.
func naive(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	timestamp := r.Header.Get(cloudinaryhook.TimestampHeader)
	sum := sha1.Sum([]byte(string(body) + timestamp + cloudinaryhooktest.DefaultSecret)) //nolint:gosec // as above
	if !recent(timestamp) || hex.EncodeToString(sum[:]) != r.Header.Get(cloudinaryhook.SignatureHeader) {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	token, err := jwt.Parse(r.URL.Query().Get("token"), key)
	if err != nil || token.Claims.(jwt.MapClaims)["album_id"] == nil {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	var notification map[string]any
	if json.Unmarshal(body, &notification) != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	w.WriteHeader(http.StatusCreated)
}
