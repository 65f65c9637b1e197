package cloudinaryhook

import (
	"bytes"
	"crypto"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestOfficialSDKAgrees signs random bodies with Cloudinary's own SDK for Node,
// which we accept, and with ours, which it accepts. CLOUDINARYHOOK_NODE_MODULES
// names a node_modules folder with the package cloudinary; CI installs it.
func TestOfficialSDKAgrees(t *testing.T) {
	modules := os.Getenv("CLOUDINARYHOOK_NODE_MODULES")
	if modules == "" {
		if os.Getenv("CI") != "" {
			t.Fatal("CLOUDINARYHOOK_NODE_MODULES is not set")
		}
		t.Skip("CLOUDINARYHOOK_NODE_MODULES does not name a node_modules folder with the package cloudinary")
	}
	type question struct {
		Body      string `json:"body"`
		Timestamp string `json:"timestamp"`
		Secret    string `json:"secret"`
		Algorithm string `json:"algorithm"`
		Signature string `json:"signature"`
	}
	random := rand.New(rand.NewPCG(1, 2))
	timestamp := strconv.FormatInt(time.Now().Unix(), 10)
	var questions []question
	var input bytes.Buffer
	for i := range 1000 {
		q := question{Body: randomBody(random), Timestamp: timestamp, Secret: fmt.Sprintf("secret %d é", i), Algorithm: "sha1"}
		if i%2 == 1 {
			q.Algorithm = "sha256"
		}
		q.Signature = Sign(sdkHash(q.Algorithm), []byte(q.Body), q.Timestamp, q.Secret)
		questions = append(questions, q)
		if err := json.NewEncoder(&input).Encode(q); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("node", "testdata/sdk.js")
	cmd.Env = append(os.Environ(), "NODE_PATH="+modules)
	cmd.Stdin, cmd.Stderr = &input, os.Stderr
	output, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	answers := json.NewDecoder(bytes.NewReader(output))
	for _, q := range questions {
		var answer struct {
			Signature string
			Accepted  bool
		}
		if err := answers.Decode(&answer); err != nil {
			t.Fatal(err)
		}
		if !answer.Accepted {
			t.Errorf("the SDK refuses our %s signature of %q", q.Algorithm, q.Body)
		}
		v := &SignatureVerifier{Secrets: []string{q.Secret}}
		if err := v.Verify([]byte(q.Body), q.Timestamp, answer.Signature); err != nil {
			t.Errorf("the SDK's %s signature of %q got %v, want nil", q.Algorithm, q.Body, err)
		}
		if _, err := NewDelivery([]byte(q.Body), nil, time.Now()); err != nil {
			t.Errorf("NewDelivery(%q) got %v, want nil", q.Body, err)
		}
	}
	if err := answers.Decode(new(any)); !errors.Is(err, io.EOF) {
		t.Errorf("after the last answer got %v, want the end", err)
	}
}

func sdkHash(algorithm string) crypto.Hash {
	if algorithm == "sha256" {
		return crypto.SHA256
	}
	return crypto.SHA1
}

// randomBody is JSON with every escape there is, and text beyond ASCII.
func randomBody(random *rand.Rand) string {
	parts := []string{`\"`, `\\`, `\/`, `\b`, `\f`, `\n`, `\r`, `\t`, `\u0000`, `\u00e9`, `\uD83D\uDE00`, `\ud800`, "é", "\u2028", "😀", "'", "<", "%", "/", " ", "a", "0", "\x7f"}
	text := func() string {
		var s strings.Builder
		for range random.IntN(12) {
			s.WriteString(parts[random.IntN(len(parts))])
		}
		return s.String()
	}
	space := []string{"", " ", "\n", "\t", "\r\n"}
	var s strings.Builder
	s.WriteString("{")
	for i := range 1 + random.IntN(6) {
		if i > 0 {
			s.WriteString(",")
		}
		fmt.Fprintf(&s, `%s"%d%s"%s:%s"%s"`, space[random.IntN(5)], i, text(), space[random.IntN(5)], space[random.IntN(5)], text())
	}
	return s.String() + space[random.IntN(5)] + "}" + space[random.IntN(5)]
}
