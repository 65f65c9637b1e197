package main

import (
	"bytes"
	"cmp"
	"context"
	"crypto/md5"  //nolint:gosec // to recognize a wrong hash, not to trust it
	"crypto/sha1" //nolint:gosec // as above
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cloudinaryhook/cloudinaryhook"
	"github.com/cloudinaryhook/cloudinaryhook/internal/secrets"
)

// examineSignature finds why the signature over a body is refused. It returns the
// verifier's own error too, nil if the signature is accepted.
func (x *examination) examineSignature(ctx context.Context, header http.Header, body []byte) error {
	signatures, timestamps := header.Values(cloudinaryhook.SignatureHeader), header.Values(cloudinaryhook.TimestampHeader)
	switch {
	case len(signatures) > 1 || len(timestamps) > 1:
		x.found("signature-repeated", fmt.Sprintf("%s: %d, %s: %d.", cloudinaryhook.SignatureHeader, len(signatures), cloudinaryhook.TimestampHeader, len(timestamps)))
		return fmt.Errorf("%w: a header is repeated", cloudinaryhook.ErrSignatureMismatch)
	case len(signatures) == 0:
		x.examineMissingSignature(header)
		return cloudinaryhook.ErrMissingSignature
	}
	signature, timestamp := signatures[0], header.Get(cloudinaryhook.TimestampHeader)
	err := x.verifier().Verify(body, timestamp, signature)
	if err == nil {
		return nil
	}
	if len(x.secrets) == 0 {
		x.found("secret-missing", "")
	}
	x.examineTimestamp(timestamp)
	digest, cause := readDigest(signature)
	if cause != "" {
		x.found(cause, "")
	}
	if len(digest) == sha1.Size && x.signature.SHA256Only {
		x.found("sha1-refused", "")
	}
	if len(x.secrets) > 0 {
		x.examineDigest(ctx, header, body, timestamp, digest)
	}
	return err
}

// examineMissingSignature finds out from the other headers why there is no
// signature. A trigger's auth_scheme decides which headers Cloudinary sends.
// With eddsa_v2 it sends the timestamp and X-Cld-Signature_v2; nginx drops the
// latter unless it is configured to keep it.
func (x *examination) examineMissingSignature(header http.Header) {
	switch {
	case header.Get(cloudinaryhook.SignatureV2Header) != "":
		x.found("signature-v2", "")
	case header.Get(cloudinaryhook.TimestampHeader) != "":
		x.found("signature-dropped", "")
	default:
		x.found("signature-missing", "")
	}
}

// verifier returns the receiver's verifier. It refuses every request if one of
// the secrets is invalid.
func (x *examination) verifier() *cloudinaryhook.SignatureVerifier {
	v := x.signature
	for _, secret := range x.secrets {
		v.Secrets = append(v.Secrets, secret.Value)
	}
	v.Now = func() time.Time { return x.at }
	return &v
}

// examineTimestamp looks for faults of the timestamp alone. If it is not known
// when the request came, an old timestamp is not a fault: the request may be a
// recording.
func (x *examination) examineTimestamp(timestamp string) {
	seconds, err := strconv.ParseInt(timestamp, 10, 64)
	signed := time.Unix(seconds, 0).UTC()
	age := x.at.Sub(signed)
	maxAge, maxSkew := cmp.Or(x.signature.MaxAge, 2*time.Hour), cmp.Or(x.signature.MaxSkew, 5*time.Minute)
	stale := "stale"
	if !x.recorded {
		stale = "stale-now"
	}
	switch {
	case timestamp == "":
		x.found("timestamp-missing", "")
	case err != nil || strconv.FormatInt(seconds, 10) != timestamp || seconds < 0:
		x.found("timestamp-odd", fmt.Sprintf("It is %.40q.", timestamp))
	case len(timestamp) >= 12:
		x.found("timestamp-milliseconds", fmt.Sprintf("It has %d digits.", len(timestamp)))
	case age > maxAge:
		x.found(stale, fmt.Sprintf("That was at %s, %s; %v are allowed.", signed.Format(time.RFC3339), relative(signed, x.at), maxAge))
	case -age > maxSkew:
		x.found("future", fmt.Sprintf("That is %s, %s; %v are allowed.", signed.Format(time.RFC3339), relative(signed, x.at), maxSkew))
	}
}

// hashes maps the length of a digest to its hash, because only the length shows
// the algorithm. Cloudinary uses SHA-1 and SHA-256 only.
var hashes = map[int]func() hash.Hash{
	md5.Size: md5.New, sha1.Size: sha1.New, sha256.Size: sha256.New, sha512.Size384: sha512.New384, sha512.Size: sha512.New,
}

// readDigest returns the digest in a signature, or nil if there is none, and
// the cause if it is written in a wrong way.
func readDigest(signature string) (digest []byte, cause string) {
	if d, err := hex.DecodeString(signature); err == nil {
		switch len(d) {
		case sha1.Size, sha256.Size:
			return d, ""
		}
		if hashes[len(d)] != nil {
			return d, "digest-algorithm"
		}
		return nil, "signature-length"
	}
	for _, encoding := range encodings {
		if d, err := encoding.DecodeString(signature); err == nil && hashes[len(d)] != nil {
			return d, "digest-base64"
		}
	}
	// Others write sha1=DIGEST, or t=TIME,v1=DIGEST.
	bare := strings.Trim(signature[strings.LastIndexAny(signature, "=, ")+1:], spaceAndMore+quotes)
	if d, err := hex.DecodeString(bare); err == nil && hashes[len(d)] != nil {
		return d, "digest-prefix"
	}
	return nil, "signature-length"
}

// examineDigest tries the usual mistakes with secret, body and digest.
func (x *examination) examineDigest(ctx context.Context, header http.Header, body []byte, timestamp string, digest []byte) {
	secrets := x.secretForms()
	if digest != nil {
		deviations, ok := search(ctx, body, timestamp, digest, secrets)
		for _, d := range deviations {
			x.found(d.cause, d.detail)
		}
		if ok {
			x.examineOddSecrets(len(deviations) == 0)
			return
		}
	}
	x.examineOddSecrets(true)
	x.examineBody(header, body)
	if digest != nil && len(body) > 0 && timestamp != "" {
		x.found("unknown", fmt.Sprintf("Secrets tried: %d, in %d spellings.", len(x.secrets), len(secrets)))
	}
}

// secretForms lists all spellings of all secrets. The values of the environment
// come first.
func (x *examination) secretForms() []form {
	var all []form
	for _, secret := range x.secrets {
		all = append(all, form{value: secret.Value})
	}
	for _, secret := range x.secrets {
		all = append(all, forms("secret", secret)...)
	}
	for _, other := range append([]secrets.Value{{From: apiKeyVariable, Value: x.apiKey}}, x.keys...) {
		if other.Value != "" {
			all = append(all, form{other.Value, "secret-swapped", "The signature fits the value of " + other.From + "."})
		}
	}
	return all
}

// examineOddSecrets finds secrets that the package always refuses.
func (x *examination) examineOddSecrets(wanted bool) {
	for _, secret := range x.secrets {
		v := cloudinaryhook.SignatureVerifier{Secrets: []string{secret.Value}}
		if err := v.Verify(nil, "", ""); wanted && errors.Is(err, cloudinaryhook.ErrNoSecrets) {
			x.found("secret-odd", fmt.Sprintf("%s: %s.", secret.From, reason(err)))
		}
	}
}

// sampleKeys are the made-up API keys in cloudinaryhooktest.Bodies. They do not
// say whose secret has signed a sample.
var sampleKeys = []string{"246813579024681", "135792468013579"}

// examineBody looks in a body without a matching signature for traces of a
// change.
func (x *examination) examineBody(header http.Header, body []byte) {
	if len(body) == 0 {
		x.found("body-empty", "")
		return
	}
	key := signingKey(body)
	if slices.Contains(sampleKeys, key) {
		key = ""
	}
	if key != "" && x.apiKey != "" && key != x.apiKey {
		x.found("other-api-key", fmt.Sprintf("It names %.40q, and the value of %s is another key.", key, apiKeyVariable))
	} else if key != "" && x.apiKey == "" {
		x.found("other-api-key", fmt.Sprintf("It names %.40q: is that the key of your secret?", key))
	}
	if declared, err := strconv.Atoi(header.Get("Content-Length")); err == nil && declared > len(body) {
		x.found("body-cut", fmt.Sprintf("The request declares %d bytes, and %d came.", declared, len(body)))
	} else if t := bytes.TrimSpace(body); len(t) > 0 && t[0] == '{' && t[len(t)-1] != '}' {
		x.found("body-cut", "It begins as a JSON object and does not end.")
	}
	if encoding := header.Get("Content-Encoding"); encoding != "" {
		x.found("body-encoding", fmt.Sprintf("It is %.40q.", encoding))
	}
	if bytes.Contains(body, []byte("\ufffd")) || bytes.Contains(body, []byte(`\ufffd`)) {
		x.found("body-replaced", "")
	}
	if namesSorted(body) {
		x.found("body-sorted", "")
	}
	if exponent.Match(body) {
		x.found("body-numbers", "")
	}
}
