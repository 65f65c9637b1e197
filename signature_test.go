package cloudinaryhook

import (
	"bytes"
	"context"
	"crypto"
	"crypto/fips140"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"math"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

const (
	testSecret    = "the secret of this test"
	testTimestamp = "1700000000"
)

var testBody = []byte(`{"notification_type":"upload","public_id":"a"}`)

func at(seconds int64) func() time.Time {
	return func() time.Time { return time.Unix(seconds, 0) }
}

func TestSignIsAPlainDigest(t *testing.T) {
	// printf '%s' '{}1700000000secret' | sha1sum, and sha256sum
	tests := []struct {
		hash crypto.Hash
		want string
	}{
		{crypto.SHA1, "3016cffb822117e1ad0c11586bb2b7b51a7381c7"},
		{crypto.SHA256, "151089e161e68133637291bf4df184c1834e84254c13f10626d694061ab05714"},
	}
	for _, tt := range tests {
		t.Run(tt.hash.String(), func(t *testing.T) {
			if got := Sign(tt.hash, []byte("{}"), testTimestamp, "secret"); got != tt.want {
				t.Errorf("Sign(%v) got %s, want %s", tt.hash, got, tt.want)
			}
		})
	}
	defer func() {
		if recover() == nil {
			t.Error("Sign(MD5) did not panic")
		}
	}()
	Sign(crypto.MD5, nil, "", "")
}

type signatureRow struct {
	name                 string
	v                    SignatureVerifier
	timestamp, signature string
	want                 error
}

func signatureRows() []signatureRow {
	sha1, sha256 := Sign(crypto.SHA1, testBody, testTimestamp, testSecret), Sign(crypto.SHA256, testBody, testTimestamp, testSecret)
	base := SignatureVerifier{Secrets: []string{testSecret}, Now: at(1700000000)}
	with := func(change func(*SignatureVerifier)) SignatureVerifier {
		v := base
		change(&v)
		return v
	}
	clockAt := func(seconds int64) SignatureVerifier {
		return with(func(v *SignatureVerifier) { v.Now = at(seconds) })
	}
	signedAt := func(timestamp string) string { return Sign(crypto.SHA1, testBody, timestamp, testSecret) }
	rows := []signatureRow{
		{"SHA-1", base, testTimestamp, sha1, nil},
		{"SHA-256", base, testTimestamp, sha256, nil},
		{"upper case", base, testTimestamp, strings.ToUpper(sha1), nil},
		{"mixed case", base, testTimestamp, strings.ToUpper(sha1[:9]) + sha1[9:], nil},
		{"SHA-256 under SHA256Only", with(func(v *SignatureVerifier) { v.SHA256Only = true }), testTimestamp, sha256, nil},
		{"SHA-1 under SHA256Only", with(func(v *SignatureVerifier) { v.SHA256Only = true }), testTimestamp, sha1, ErrUnsupportedSignature},
		{"last of three secrets", with(func(v *SignatureVerifier) { v.Secrets = []string{"x", "y", testSecret} }), testTimestamp, sha256, nil},
		{"first of three secrets", with(func(v *SignatureVerifier) { v.Secrets = []string{testSecret, "x", "y"} }), testTimestamp, sha1, nil},
		{"the same secret twice", with(func(v *SignatureVerifier) { v.Secrets = []string{testSecret, testSecret} }), testTimestamp, sha1, nil},
		{"another secret", with(func(v *SignatureVerifier) { v.Secrets = []string{"x"} }), testTimestamp, sha1, ErrSignatureMismatch},
		{"zero value", SignatureVerifier{}, testTimestamp, Sign(crypto.SHA1, testBody, testTimestamp, ""), ErrNoSecrets},
		{"empty secret", with(func(v *SignatureVerifier) { v.Secrets = []string{""} }), testTimestamp, Sign(crypto.SHA1, testBody, testTimestamp, ""), ErrNoSecrets},
		{"empty secret beside a good one", with(func(v *SignatureVerifier) { v.Secrets = []string{testSecret, ""} }), testTimestamp, sha1, ErrNoSecrets},

		{"no signature", base, testTimestamp, "", ErrMissingSignature},
		{"one digit more", base, testTimestamp, sha1 + "0", ErrSignatureMismatch},
		{"one digit fewer", base, testTimestamp, sha1[1:], ErrSignatureMismatch},
		{"first digit differs", base, testTimestamp, flip(sha1, 0), ErrSignatureMismatch},
		{"last digit differs", base, testTimestamp, flip(sha1, len(sha1)-1), ErrSignatureMismatch},
		{"SHA-256 cut to SHA-1's length", base, testTimestamp, sha256[:40], ErrSignatureMismatch},
		{"not hexadecimal", base, testTimestamp, "g" + sha1[1:], ErrSignatureMismatch},
		{"Unicode digits", base, testTimestamp, strings.Repeat("٠", 20), ErrSignatureMismatch},
		{"full-width digits", base, testTimestamp, sha256[:1] + strings.Repeat("０", 21), ErrSignatureMismatch},
		{"blank after", base, testTimestamp, sha1 + " ", ErrSignatureMismatch},
		{"blank inside", base, testTimestamp, sha1[:20] + " " + sha1[21:], ErrSignatureMismatch},
		{"NUL at the end", base, testTimestamp, sha1[:39] + "\x00", ErrSignatureMismatch},
		{"0x before", base, testTimestamp, "0x" + sha1[:38], ErrSignatureMismatch},
		{"sha1= before", base, testTimestamp, "sha1=" + sha1, ErrSignatureMismatch},
		{"two, joined by a comma", base, testTimestamp, sha1 + "," + sha1, ErrSignatureMismatch},
		{"SHA-1 twice, to SHA-256's length", base, testTimestamp, sha1 + sha1[:24], ErrSignatureMismatch},
		{"two MiB of it", base, testTimestamp, strings.Repeat("0", 2<<20), ErrSignatureMismatch},
		{"zeros", base, testTimestamp, strings.Repeat("0", 40), ErrSignatureMismatch},
		{"of an empty body", base, testTimestamp, Sign(crypto.SHA1, nil, testTimestamp, testSecret), ErrSignatureMismatch},
		{"without the secret", base, testTimestamp, Sign(crypto.SHA1, testBody, testTimestamp, ""), ErrSignatureMismatch},
		{"of another timestamp", base, testTimestamp, signedAt("1700000001"), ErrSignatureMismatch},
		{"of a timestamp with a blank", base, testTimestamp, signedAt(" " + testTimestamp), ErrSignatureMismatch},

		{"no timestamp", base, "", sha1, ErrInvalidTimestamp},
		{"negative", clockAt(-1), "-1", signedAt("-1"), ErrInvalidTimestamp},
		{"megabyte of digits", base, strings.Repeat("1", 1<<20), sha1, ErrInvalidTimestamp},
		{"milliseconds in seconds' clock", clockAt(1700000000000), "1700000000000", signedAt("1700000000000"), nil},
		{"milliseconds", base, "1700000000000", signedAt("1700000000000"), ErrStaleTimestamp},
		{"zero", base, "0", signedAt("0"), ErrStaleTimestamp},
		{"largest number, earliest clock", clockAt(math.MinInt64), "9223372036854775807", signedAt("9223372036854775807"), ErrInvalidTimestamp},
		{"largest accepted number, latest clock", clockAt(math.MaxInt64), "36028797018963968", signedAt("36028797018963968"), ErrStaleTimestamp},
		{"zero, earliest clock", clockAt(math.MinInt64), "0", signedAt("0"), ErrStaleTimestamp},
		{"zero, latest clock", clockAt(math.MaxInt64), "0", signedAt("0"), ErrStaleTimestamp},
		{"zero, at the epoch", clockAt(0), "0", signedAt("0"), nil},
		{"exactly as old as allowed", clockAt(1700000000 + 7200), testTimestamp, sha1, nil},
		{"a second older", clockAt(1700000000 + 7201), testTimestamp, sha1, ErrStaleTimestamp},
		{"exactly as far ahead as allowed", clockAt(1700000000 - 300), testTimestamp, sha1, nil},
		{"a second further", clockAt(1700000000 - 301), testTimestamp, sha1, ErrStaleTimestamp},
		{"MaxAge", with(func(v *SignatureVerifier) { v.MaxAge = time.Minute; v.Now = at(1700000061) }), testTimestamp, sha1, ErrStaleTimestamp},
		{"MaxSkew", with(func(v *SignatureVerifier) { v.MaxSkew = time.Second; v.Now = at(1699999998) }), testTimestamp, sha1, ErrStaleTimestamp},
	}
	for _, timestamp := range []string{ // each of them signed
		"0" + testTimestamp, "+" + testTimestamp, " " + testTimestamp, testTimestamp + "\n", testTimestamp + ".0", "17e8", "1_700000000", "0x6553f100", "-0",
		"١٧٠٠٠٠٠٠٠٠", "99999999999999999999", "9223372036854775807", testTimestamp + "," + testTimestamp,
	} {
		rows = append(rows, signatureRow{"timestamp " + timestamp, base, timestamp, signedAt(timestamp), ErrInvalidTimestamp})
	}
	return rows
}

func TestSignatureVerifier(t *testing.T) {
	for _, tt := range signatureRows() {
		t.Run(tt.name, func(t *testing.T) {
			if err := tt.v.Verify(testBody, tt.timestamp, tt.signature); !errors.Is(err, tt.want) {
				t.Errorf("Verify(%q, %q) got %v, want %v", tt.timestamp, tt.signature, err, tt.want)
			}
		})
	}
}

// TestSignatureMessages: an error says what helps to find the cause, and nothing
// that helps to forge.
func TestSignatureMessages(t *testing.T) {
	v := SignatureVerifier{Secrets: []string{"first", "second"}, Now: at(1700000000)}
	tests := []struct{ name, timestamp, want string }{
		{"mismatch", testTimestamp, "of another API key (the oldest active one signs, unless one is dedicated to webhooks); bytes of body: 46, secrets tried: 2"},
		{"future", "1700007200", "signed 2h0m0s in the future, more than 5m0s"},
		{"past", "1699990000", "signed 2h46m40s ago, more than 2h0m0s"},
		{"eleven digits", "10000000000", "signed 2305555h33m20s in the future"},
		{"milliseconds", "1700000000123", "signed in the year 55840; is it in milliseconds?"},
		{"microseconds", "1700000000123456", "is it in milliseconds?"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			right := Sign(crypto.SHA1, testBody, tt.timestamp, "second")
			err := v.Verify(testBody, tt.timestamp, flip(right, 0))
			if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), right[1:]) {
				t.Errorf("Verify got %v, want %q in it and no digest", err, tt.want)
			}
		})
	}
}

// TestFIPS runs itself under GODEBUG=fips140=only, where SHA-1 is not to be had.
func TestFIPS(t *testing.T) {
	if !fips140.Enforced() {
		cmd := exec.Command(os.Args[0], "-test.run=^TestFIPS$", "-test.v", "-test.timeout=2m")
		cmd.Env = append(os.Environ(), "GODEBUG=fips140=only")
		out, err := cmd.CombinedOutput()
		if err != nil || !bytes.Contains(out, []byte("--- PASS: TestFIPS")) {
			t.Fatalf("with fips140=only got %v, want a pass:\n%s", err, out)
		}
		return
	}
	h := newHandler(t, func(c *Config) { c.Signature.Secrets = []string{"other", testSecret} })
	tests := []struct {
		signature string
		status    int
		want      error
	}{
		{Sign(crypto.SHA256, testBody, testTimestamp, testSecret), http.StatusCreated, nil},
		{Sign(crypto.SHA256, testBody, testTimestamp, "x"), http.StatusUnauthorized, ErrSignatureMismatch},
		{strings.Repeat("0", 40), http.StatusUnauthorized, ErrUnsupportedSignature},
	}
	for _, tt := range tests {
		r, w := httptest.NewRequest(http.MethodPost, "/?token="+rawToken(testKey, hs256, `{}`), bytes.NewReader(testBody)), httptest.NewRecorder()
		r.Header.Set(TimestampHeader, testTimestamp)
		r.Header.Set(SignatureHeader, tt.signature)
		h.ServeHTTP(w, r)
		err := h.config.Signature.Verify(testBody, testTimestamp, tt.signature)
		if w.Code != tt.status || !errors.Is(err, tt.want) {
			t.Errorf("signature %s got status %d, Verify %v, want %d and %v", tt.signature, w.Code, err, tt.status, tt.want)
		}
	}
}

// unclonable is a digest as BoringCrypto and older FIPS modules have it.
type unclonable struct{ hash.Hash }

// failing has a method Clone that cannot clone.
type failing struct{ unclonable }

func (failing) Clone() (hash.Cloner, error) { return nil, errors.ErrUnsupported }

func TestDigestsThatCannotBeCloned(t *testing.T) {
	const without, fails = crypto.BLAKE2s_256, crypto.BLAKE2b_256 // which nothing here registers
	crypto.RegisterHash(without, func() hash.Hash { return unclonable{sha256.New()} })
	crypto.RegisterHash(fails, func() hash.Hash { return failing{unclonable{sha256.New()}} })
	v := SignatureVerifier{Secrets: []string{"first", "second", "third"}}
	for _, algorithm := range []crypto.Hash{without, fails} {
		for _, secret := range []string{"first", "second", "third", "fourth"} {
			digest, _ := hex.DecodeString(Sign(crypto.SHA256, testBody, testTimestamp, secret))
			err := v.match(testBody, signatureClaim{hash: algorithm, digest: digest, timestamp: testTimestamp})
			if want := secret != "fourth"; (err == nil) != want {
				t.Errorf("match of a digest by the %s secret got %v, want accepted: %v", secret, err, want)
			}
		}
	}
}

func flip(signature string, i int) string {
	digit := byte('0')
	if signature[i] == digit {
		digit = '1'
	}
	return signature[:i] + string(digit) + signature[i+1:]
}

func TestSignatureVerifierUsesTheClock(t *testing.T) {
	now := strconv.FormatInt(time.Now().Unix(), 10)
	v := SignatureVerifier{Secrets: []string{testSecret}}
	if err := v.Verify(testBody, now, Sign(crypto.SHA1, testBody, now, testSecret)); err != nil {
		t.Errorf("Verify with a nil Now and a signature of now got %v, want nil", err)
	}
	if err := v.Verify(testBody, testTimestamp, Sign(crypto.SHA1, testBody, testTimestamp, testSecret)); !errors.Is(err, ErrStaleTimestamp) {
		t.Errorf("Verify with a nil Now and a signature of 2023 got %v, want %v", err, ErrStaleTimestamp)
	}
}

// TestEveryByteCounts changes one byte at a time of what was signed.
func TestEveryByteCounts(t *testing.T) {
	v := SignatureVerifier{Secrets: []string{testSecret}, Now: at(1700000000)}
	for _, hash := range []crypto.Hash{crypto.SHA1, crypto.SHA256} {
		signature := Sign(hash, testBody, testTimestamp, testSecret)
		for i := range testBody {
			body := append([]byte(nil), testBody...)
			body[i] ^= 1
			if err := v.Verify(body, testTimestamp, signature); !errors.Is(err, ErrSignatureMismatch) {
				t.Errorf("%v: Verify(%q) got %v, want %v", hash, body, err, ErrSignatureMismatch)
			}
		}
	}
}

// TestOddSecrets: what files, shells and .env files put around a secret is
// refused, also by NewHandler and for token keys, with an error that does not
// quote it. All else may be part of a secret.
func TestOddSecrets(t *testing.T) {
	const secret = "a secret, and as a key of 32 bytes or more"
	tests := []struct{ name, secret, want string }{
		{"a line break", "\n", "is blank"},
		{"a blank", " ", "is blank"},
		{"a NUL", "\x00", "is blank"},
		{"quotes with nothing in them", "\"\"", "is blank"},
		{"bytes of zero, as many as a key has", strings.Repeat("\x00", 32), "is blank"},
		{"a byte order mark", "\ufeff\r\n", "is blank"},
		{"line break after", secret + "\n", "ends with '\\n'"},
		{"line break of Windows after", secret + "\r\n", "ends with '\\n'"},
		{"blank before", " " + secret, "begins with ' '"},
		{"no-break space after", secret + "\u00a0", `ends with '\u00a0'`},
		{"quotes around", `"` + secret + `"`, `begins with '"'`},
		{"apostrophe after", secret + "'", `ends with '\''`},
		{"typographic quotes around", "“" + secret + "”", `begins with '\u201c'`},
		{"NUL after", secret + "\x00", `ends with '\x00'`},
		{"byte order mark before", "\ufeff" + secret, `begins with '\ufeff'`},
		{"zero-width space after", secret + "\u200b", `ends with '\u200b'`},

		{"blanks and quotes inside", secret + ` "x" ` + secret, ""},
		{"line break inside", secret + "\n" + secret, ""},
		{"Cyrillic", "ключ" + secret, ""},
		{"punctuation", "$(" + secret + "=/+", ""},
		{"no UTF-8", "\xff" + secret + "\xfe", ""},
		{"long", strings.Repeat(secret, 100), ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			v := &SignatureVerifier{Secrets: []string{"other", tt.secret}, Now: at(1700000000)}
			key := []byte(tt.secret)
			for len(key) < minKeySize {
				key = append(key, tt.secret...)
			}
			_, handlerErr := NewHandler(Config{Signature: v, Tokenless: true, Processor: &Processor{Store: new(memory), Deferred: true}})
			_, tokenErr := (&TokenVerifier{Keys: [][]byte{otherKey, key}}).Verify(rawToken(otherKey, hs256, `{}`))
			_, signErr := SignToken(key, &Claims{})
			for what, err := range map[string]error{
				"secret 2 of 2":    v.Verify(testBody, testTimestamp, Sign(crypto.SHA256, testBody, testTimestamp, tt.secret)),
				"of 2 " + tt.want:  handlerErr,
				"token key 2 of 2": tokenErr,
				"the token key":    signErr,
			} {
				if tt.want == "" && err != nil {
					t.Errorf("got %v, want nil", err)
				}
				if text := fmt.Sprint(err); tt.want != "" && (!errors.Is(err, ErrNoSecrets) || !strings.Contains(text, what) || !strings.HasSuffix(text, " "+tt.want)) {
					t.Errorf("got %v, want %v with %q and %q", err, ErrNoSecrets, what, tt.want)
				}
			}
		})
	}
}

// TestRandomKeys: a key of random bytes may begin and end with any of them.
func TestRandomKeys(t *testing.T) {
	random, key := rand.NewChaCha8([32]byte{}), make([]byte, minKeySize)
	for range 10000 {
		_, _ = random.Read(key)
		key[0], key[31] = '"', '\n'
		if what := keyOddity(key); what != "" {
			t.Fatalf("%x %s, want nothing odd", key, what)
		}
	}
}

// corpus returns the folder of published vectors and bodies. They are not part
// of the project; CI has them.
func corpus(t testing.TB) string {
	t.Helper()
	dir := os.Getenv("CLOUDINARYHOOK_CORPUS")
	if dir == "" {
		t.Skip("CLOUDINARYHOOK_CORPUS does not name the corpus of published bodies")
	}
	return dir
}

var hashNames = map[string]crypto.Hash{"sha1": crypto.SHA1, "sha256": crypto.SHA256}

func TestPublishedVectors(t *testing.T) {
	var vectors []struct {
		Kind       string
		SourceRepo string `json:"source_repo"`
		Body       string
		Timestamp  *string
		APISecret  string `json:"api_secret"`
		Algorithm  string
		Expected   string `json:"expected_signature"`
		MockedNow  *int64 `json:"mocked_now"`
		ValidFor   *int64 `json:"valid_for"`
		SDKExpects *bool  `json:"sdk_expects"`
		Note       string
	}
	data, err := os.ReadFile(filepath.Join(corpus(t), "vectors.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &vectors); err != nil {
		t.Fatal(err)
	}
	for _, vec := range vectors {
		t.Run(vec.Kind+" "+vec.Note, func(t *testing.T) {
			if vec.Kind == "api_response" {
				got := Sign(hashNames[vec.Algorithm], []byte(vec.Body), "", vec.APISecret)
				if (got == vec.Expected) != *vec.SDKExpects {
					t.Errorf("digest got %s, published %s, want equal: %v", got, vec.Expected, *vec.SDKExpects)
				}
				return
			}
			v := SignatureVerifier{Secrets: []string{vec.APISecret}}
			want := vec.SDKExpects == nil || *vec.SDKExpects
			switch seconds, err := strconv.ParseInt(*vec.Timestamp, 10, 64); {
			case err != nil: // not canonical: the digest is right, and it is refused all the same
				want = false
			case vec.MockedNow != nil:
				v.Now = at(*vec.MockedNow)
			default:
				v.Now = at(seconds)
			}
			if vec.ValidFor != nil {
				v.MaxAge = time.Duration(*vec.ValidFor) * time.Second
			}
			err := v.Verify([]byte(vec.Body), *vec.Timestamp, vec.Expected)
			if (err == nil) != want {
				t.Errorf("Verify at %s got %v, want accepted: %v", *vec.Timestamp, err, want)
			}
			if vec.Kind == "derived_boundary_shift" && err == nil {
				if _, err := NewDelivery([]byte(vec.Body), nil, time.Now()); !errors.Is(err, ErrMalformedBody) {
					t.Errorf("NewDelivery of a shifted body got %v, want %v", err, ErrMalformedBody)
				}
			}
		})
	}
}

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
		q.Signature = Sign(hashNames[q.Algorithm], []byte(q.Body), q.Timestamp, q.Secret)
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

// TestComparisonTakesTheSameInstructions counts the instructions of the digests'
// comparison under valgrind: where a digest differs and which secret signs must
// not show. CI installs valgrind.
func TestComparisonTakesTheSameInstructions(t *testing.T) {
	if raceEnabled {
		t.Skip("the program under valgrind has no race detector; without it CI runs this test for the coverage")
	}
	if _, err := exec.LookPath("valgrind"); err != nil && os.Getenv("CI") == "" {
		t.Skip("valgrind is not installed; CI installs it")
	}
	// valgrind needs symbols, and does not know the debug information of today's Go.
	binary := filepath.Join(t.TempDir(), "timing")
	if out, err := exec.Command("go", "build", "-ldflags=-w", "-o", binary, "./testdata/timing").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	for _, hash := range []crypto.Hash{crypto.SHA1, crypto.SHA256} {
		t.Run(hash.String(), func(t *testing.T) {
			right := Sign(hash, testBody, testTimestamp, testSecret)
			cases := map[string][]string{
				"first secret":  {right, testSecret, "second", "third"},
				"second secret": {right, "second", testSecret, "third"},
				"third secret":  {right, "second", "third", testSecret},
				"other digest":  {Sign(hash, testBody, testTimestamp, "x"), testSecret, "second", "third"},
			}
			for _, i := range []int{0, 1, len(right) / 2, len(right) - 2, len(right) - 1} {
				cases[fmt.Sprint("differs in digit ", i)] = []string{flip(right, i), testSecret, "second", "third"}
			}
			counts := make(map[string][]string)
			for name, args := range cases {
				n := countInstructions(t, binary, args)
				counts[n] = append(counts[n], name)
			}
			t.Logf("instructions: %v", counts)
			if len(counts) != 1 {
				t.Errorf("the instructions depend on the digests: got %v, want one count", counts)
			}
		})
	}
}

var collected = regexp.MustCompile(`Collected : (\d+)`)

func countInstructions(t *testing.T, binary string, args []string) string {
	t.Helper()
	var out []byte
	var err error
	for range 20 { // callgrind sometimes trips over Go's changing stacks, which says nothing about what it counts
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute) // or it never ends
		cmd := exec.CommandContext(ctx, "valgrind", append([]string{"--tool=callgrind", "--callgrind-out-file=" + filepath.Join(t.TempDir(), "out"),
			"--collect-atstart=no", "--toggle-collect=github.com/cloudinaryhook/cloudinaryhook.equalDigests",
			binary, string(testBody), testTimestamp}, args...)...)
		// A preempted goroutine's scheduler would be counted too.
		cmd.Env = append(os.Environ(), "GOMAXPROCS=1", "GOGC=off", "GODEBUG=asyncpreemptoff=1")
		out, err = cmd.CombinedOutput()
		cancel()
		if found := collected.FindSubmatch(out); err == nil && found != nil && string(found[1]) != "0" {
			return string(found[1])
		}
	}
	t.Fatalf("valgrind got %v and counted nothing:\n%s", err, out)
	return ""
}

var wrapped = regexp.MustCompile("^$|^[\\pZ\\p{Cc}\\p{Cf}\\p{Pi}\\p{Pf}\"'`]|[\\pZ\\p{Cc}\\p{Cf}\\p{Pi}\\p{Pf}\"'`]$")

// FuzzSignatureVerifier states what the verifier accepts: exactly what Sign
// made with one of its secrets, none of which is odd, inside the window. The signature is
// raw as it comes if by is 0, else made of the same body and timestamp.
func FuzzSignatureVerifier(f *testing.F) {
	for by := range uint8(7) {
		f.Add([]byte("{}"), "1700000000", "secret", "other", int64(1700000000), false, by)
		f.Add([]byte("{}"), "1700000000", "secret", "other", int64(1700007200), true, by)
		f.Add([]byte("{}1"), "1700000000", "", "x", int64(1699999700), false, by)
		f.Add([]byte{}, "01700000000", "secret", "x", int64(1700000000), false, by)
	}
	f.Add([]byte("{}"), "1700000000", "secret", "3016cffb822117e1ad0c11586bb2b7b51a7381c7", int64(1700000000), false, uint8(0))
	f.Add([]byte("{}"), "0", "secret", "", int64(math.MinInt64), false, uint8(1))
	f.Add([]byte("{}"), "9223372036854775807", "secret", "", int64(math.MaxInt64), false, uint8(3))
	f.Fuzz(func(t *testing.T, body []byte, timestamp, secret, raw string, now int64, sha256Only bool, by uint8) {
		v := SignatureVerifier{Secrets: []string{"first", secret}, SHA256Only: sha256Only, Now: at(now)}
		signature := raw
		if by > 0 {
			hashes := []crypto.Hash{crypto.SHA1, crypto.SHA256}
			signature = Sign(hashes[by%2], body, timestamp, []string{"first", secret, raw}[by/2%3])
		}
		seconds, err := strconv.ParseInt(timestamp, 10, 64)
		canonical := err == nil && seconds >= 0 && seconds <= 1<<55 && strconv.FormatInt(seconds, 10) == timestamp
		inWindow := canonical && now >= -300 && now-seconds <= 7200 && seconds-now <= 300
		signed := false
		for _, s := range []string{"first", secret} {
			for _, h := range []crypto.Hash{crypto.SHA1, crypto.SHA256} {
				signed = signed || strings.EqualFold(signature, Sign(h, body, timestamp, s)) && (h == crypto.SHA256 || !sha256Only)
			}
		}
		want := !wrapped.MatchString(secret) && inWindow && signed
		if got := v.Verify(body, timestamp, signature) == nil; got != want {
			t.Errorf("Verify(%q, %q, %q) with secret %q at %d got %v, want %v", body, timestamp, signature, secret, now, got, want)
		}
	})
}
