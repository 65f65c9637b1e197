package cloudinaryhook

import (
	"cmp"
	"crypto"
	"crypto/fips140"
	"crypto/sha1" //nolint:gosec // Cloudinary's default; SHA256Only refuses it
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"fmt"
	"hash"
	"strconv"
	"time"

	"github.com/cloudinaryhook/cloudinaryhook/internal/secrets"
)

// The headers in which Cloudinary signs a notification. A trigger's auth_scheme
// decides which of them it sends. "default" sends all three, and "legacy_hmac"
// the first two. "eddsa_v2" sends only the timestamp and the v2 signature.
// Nobody outside Cloudinary can verify that one: no key is published.
const (
	SignatureHeader   = "X-Cld-Signature"    // lower-case hex of a SHA-1 or SHA-256 digest
	TimestampHeader   = "X-Cld-Timestamp"    // Unix seconds at which it was signed
	SignatureV2Header = "X-Cld-Signature_v2" // Ed25519; this package does not verify it
)

const (
	defaultMaxAge  = 2 * time.Hour // what every official SDK allows, and room for the retries of about 18 minutes
	defaultMaxSkew = 5 * time.Minute
	maxTimestamp   = 1 << 55 // seconds; far beyond, time.Time wraps around
)

// Sign returns the signature that Cloudinary puts in [SignatureHeader]: the
// lower-case hex digest of body, timestamp and secret, one after the other. It
// is a plain digest. Cloudinary's documentation wrongly calls it an HMAC.
//
// The hash is crypto.SHA1 (Cloudinary's default) or crypto.SHA256. Sign panics
// with any other hash, and with SHA-1 under GODEBUG=fips140=only. The timestamp
// is the text of [TimestampHeader], Unix seconds in decimal.
func Sign(hash crypto.Hash, body []byte, timestamp, secret string) string {
	if hash != crypto.SHA1 && hash != crypto.SHA256 {
		panic("cloudinaryhook: Sign: the hash must be crypto.SHA1 or crypto.SHA256")
	}
	h := hash.New()
	h.Write(body)
	h.Write([]byte(timestamp + secret))
	return hex.EncodeToString(h.Sum(nil))
}

// A SignatureVerifier proves that Cloudinary signed a body for this product
// environment, and that this was not long ago. It works on bytes, without HTTP,
// so it can verify polled and queued notifications too.
//
// The zero value refuses everything. A verifier is safe for concurrent use as
// long as its fields are not changed.
type SignatureVerifier struct {
	// Secrets are the API secrets of one product environment. A body is accepted
	// if any of them signed it, so that a secret can be rotated without an outage:
	// add the new one, wait until Cloudinary signs with it, remove the old one.
	//
	// If there are none, or one is blank or has white space, quotes or control
	// characters around it, everything is refused. These characters come from
	// files and shells, and are not part of a secret.
	Secrets []string

	// MaxAge is how old a signature may be; 0 means 2 hours. A recorded
	// notification can be replayed for that long, so the Store must remember
	// completed deliveries for MaxAge plus MaxSkew.
	MaxAge time.Duration

	// MaxSkew is how far in the future a signature may be, to allow for clocks
	// that disagree; 0 means 5 minutes.
	MaxSkew time.Duration

	// SHA256Only refuses SHA-1 signatures. An attacker can make two bodies of the
	// same length with the same SHA-1. It stays the same when the same timestamp
	// and secret follow, so a signature of one body fits the other. Set
	// SHA256Only as soon as the account signs with SHA-256. Under
	// GODEBUG=fips140=only there is no SHA-1, and its signatures are refused in
	// any case.
	SHA256Only bool

	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// Verify takes the texts of [TimestampHeader] and [SignatureHeader]. It returns
// nil if the signature is the digest of exactly these bytes, the timestamp and
// one of the secrets, and the timestamp is in the replay window. JSON that was
// decoded and encoded again has other bytes, so it does not verify.
//
// All errors wrap one of [ErrNoSecrets], [ErrMissingSignature],
// [ErrUnsupportedSignature], [ErrInvalidTimestamp], [ErrStaleTimestamp] and
// [ErrSignatureMismatch]. No error holds the correct digest, because whoever
// reads it could forge a notification.
func (v *SignatureVerifier) Verify(body []byte, timestamp, signature string) error {
	if err := v.usable(); err != nil {
		return err
	}
	claim, err := v.readHeaders(timestamp, signature)
	if err != nil {
		return err
	}
	return v.match(body, claim)
}

func (v *SignatureVerifier) usable() error { return checkSecrets("secret", v.Secrets, secrets.Oddity) }

// checkSecrets refuses an empty list, and odd secrets: with a blank secret,
// everybody can sign.
func checkSecrets[S string | []byte](name string, secrets []S, oddity func(S) string) error {
	if len(secrets) == 0 {
		return fmt.Errorf("%w: there are no %ss", ErrNoSecrets, name)
	}
	for i, secret := range secrets {
		if what := oddity(secret); what != "" {
			return fmt.Errorf("%w: %s %d of %d %s", ErrNoSecrets, name, i+1, len(secrets), what)
		}
	}
	return nil
}

// A signatureClaim is what the headers say. It proves nothing yet.
type signatureClaim struct {
	hash      crypto.Hash
	digest    []byte
	timestamp string // hashed as it came, never re-formatted
	signedAt  time.Time
}

// readHeaders checks the headers before the body is read. The length of the
// signature tells the algorithm. Nothing else does.
func (v *SignatureVerifier) readHeaders(timestamp, signature string) (claim signatureClaim, err error) {
	claim.timestamp = timestamp
	switch len(signature) {
	case 0:
		return claim, ErrMissingSignature
	case 2 * sha1.Size:
		claim.hash = crypto.SHA1
		if v.SHA256Only || fips140.Enforced() {
			return claim, fmt.Errorf("%w: it is SHA-1, which SHA256Only or GODEBUG=fips140=only forbids", ErrUnsupportedSignature)
		}
	case 2 * sha256.Size:
		claim.hash = crypto.SHA256
	default:
		return claim, fmt.Errorf("%w: %d characters are neither SHA-1 nor SHA-256", ErrSignatureMismatch, len(signature))
	}
	if claim.digest, err = hex.DecodeString(signature); err != nil {
		return claim, fmt.Errorf("%w: it is not hexadecimal", ErrSignatureMismatch)
	}
	claim.signedAt, err = v.readTimestamp(timestamp)
	return claim, err
}

// readTimestamp takes canonical decimal only. Body, timestamp and secret are hashed
// without a separator, so a digit can move from one to the next and the digest stays
// the same: "{}" at "11700000000" is signed like "{}1" at "1700000000". Three rules
// prevent that: a second has one spelling, the window has two sides, and the body
// is exactly one JSON value.
//
// Official SDKs accept any time in the future. Such a notification can be replayed
// for ever.
func (v *SignatureVerifier) readTimestamp(s string) (time.Time, error) {
	seconds, err := strconv.ParseInt(s, 10, 64)
	if err != nil || s[0] < '0' || s[0] > '9' || s[0] == '0' && s != "0" || seconds > maxTimestamp {
		return time.Time{}, fmt.Errorf("%w: it is not decimal Unix seconds", ErrInvalidTimestamp)
	}
	signedAt := time.Unix(seconds, 0).UTC()
	now := time.Now
	if v.Now != nil {
		now = v.Now
	}
	age := now().Sub(signedAt) // saturates, so no far time wraps into the window
	maxAge, maxSkew := cmp.Or(v.MaxAge, defaultMaxAge), cmp.Or(v.MaxSkew, defaultMaxSkew)
	switch {
	case age > maxAge:
		err = fmt.Errorf("%w: signed %v ago, more than %v", ErrStaleTimestamp, age.Round(time.Millisecond), maxAge)
	case age < -maxSkew && len(s) >= 13: // in milliseconds, these are years from 2001 on
		err = fmt.Errorf("%w: signed in the year %d; is it in milliseconds?", ErrStaleTimestamp, signedAt.Year())
	case age < -maxSkew:
		err = fmt.Errorf("%w: signed %v in the future, more than %v", ErrStaleTimestamp, age.Abs().Round(time.Millisecond), maxSkew)
	}
	return signedAt, err
}

// match hashes body and timestamp once, and continues from there with each secret.
// It tries every secret and compares every byte. So its time tells neither how near
// a guess came nor which secret signs.
func (v *SignatureVerifier) match(body []byte, claim signatureClaim) error {
	buf := make([]byte, 0, 128) // to hash a string without an allocation
	var begun hash.Hash         // with body and timestamp
	begin := func() hash.Hash {
		if cloner, ok := begun.(hash.Cloner); ok {
			if clone, err := cloner.Clone(); err == nil { // fails in BoringCrypto and in the FIPS module v1.0.0
				return clone
			}
		}
		h := claim.hash.New()
		h.Write(body)
		buf = append(buf[:0], claim.timestamp...)
		h.Write(buf)
		return h
	}
	begun = begin()
	found := 0
	for i, secret := range v.Secrets {
		signed := begun // the last secret needs no copy of it
		if i < len(v.Secrets)-1 {
			signed = begin()
		}
		buf = append(buf[:0], secret...)
		signed.Write(buf)
		found |= equalDigests(signed.Sum(buf[:0]), claim.digest)
	}
	if found != 1 {
		return fmt.Errorf("%w; bytes of body: %d, secrets tried: %d", ErrSignatureMismatch, len(body), len(v.Secrets))
	}
	return nil
}

// equalDigests is not inlined, so that a test can count its instructions.
//
//go:noinline
func equalDigests(a, b []byte) int { return subtle.ConstantTimeCompare(a, b) }
