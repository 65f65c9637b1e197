package cloudinaryhook

import (
	"bytes"
	stdjson "encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/golang-jwt/jwt/v5"
)

const (
	minKeySize   = 32      // bytes; RFC 7518 §3.2: a key of the hash's size or larger
	maxTokenSize = 8 << 10 // bytes; what common servers allow a request line to have
)

// Claims says whom a notification is for: the verified claims of the token in
// its URL. The registered claims, such as Issuer and ExpiresAt, are those of
// RFC 7519; exp, nbf and iat are Unix seconds on the wire.
//
// Claims has no JSON methods, so an app's own claims type may embed it. What
// the token says beyond these fields is reached through [Claims.Decode].
// Claims are not changed by this package once verified, and safe to read
// concurrently.
type Claims struct {
	jwt.RegisteredClaims

	// The ids may be strings or numbers in the token; of a number the text is
	// kept as it came, so that 64-bit ids stay exact. Empty if not there.
	OrganizationID string `json:"organization_id,omitempty"`
	AlbumID        string `json:"album_id,omitempty"`
	UserID         string `json:"user_id,omitempty"`

	// set is the whole claim set as it was signed; nil in claims made by hand,
	// whose set is their fields.
	set     jsontext.Value
	members claimMembers // of set
}

// Decode stores the token's whole claim set in v, a pointer to the app's own
// type, by the rules of encoding/json. Of claims made by hand, which no token
// brought, the set is their fields. It does not look at changes made to the
// fields of verified claims. The error is encoding/json's.
func (c *Claims) Decode(v any) error {
	set, err := c.claimSet()
	if err != nil {
		return err
	}
	return stdjson.Unmarshal(set, v)
}

func (c *Claims) claimSet() (jsontext.Value, error) {
	if c.set != nil {
		return c.set, nil
	}
	set, err := json.Marshal(c)
	if err != nil {
		return nil, fmt.Errorf("cloudinaryhook: claims: %w", err)
	}
	return set, nil
}

// clone shares nothing with c. Its claim set does not change any more.
func (c *Claims) clone() (*Claims, error) {
	set, err := c.claimSet()
	if err != nil {
		return nil, err
	}
	return parseClaims(bytes.Clone(set))
}

// scope is what separates one tenant's notifications from another's: the claim
// set without the claims that differ from token to token of one tenant (iat,
// nbf, exp, jti), as JSON without white space, with the names of every object
// sorted and the text of numbers as it came. The last point keeps two ids
// above 2^53 two.
func (c *Claims) scope() (string, error) {
	members, err := c.allMembers()
	if err != nil {
		return "", err
	}
	var buf [256]byte // enough for most, and no allocation
	scope := append(buf[:0], '{')
	for _, m := range members {
		switch string(m.name) {
		case "iat", "nbf", "exp", "jti":
			continue
		}
		if len(scope) > 1 {
			scope = append(scope, ',')
		}
		scope, _ = jsontext.AppendQuote(scope, m.name) // it was valid UTF-8 in the set
		scope = append(append(scope, ':'), m.value...)
	}
	scope = append(scope, '}')
	// Most claim sets are in that form now: their members are sorted, and only
	// containers, escapes and what is not ASCII can have another.
	if slices.ContainsFunc(scope[1:], func(c byte) bool { return c == '{' || c == '[' || c == '\\' || c >= utf8.RuneSelf }) {
		formatted := jsontext.Value(bytes.Clone(scope))
		if err := formatted.Format(jsontext.ReorderRawObjects(true)); err != nil {
			return "", fmt.Errorf("%w: the claims are not one JSON object", ErrInvalidToken)
		}
		return string(formatted), nil
	}
	return string(scope), nil
}

// allMembers reads those of claims that were made by hand.
func (c *Claims) allMembers() (claimMembers, error) {
	if c.members != nil {
		return c.members, nil
	}
	set, err := c.claimSet()
	if err != nil {
		return nil, err
	}
	var members claimMembers
	if json.Unmarshal(set, &members) != nil {
		return nil, fmt.Errorf("%w: the claims are not one JSON object", ErrInvalidToken)
	}
	return members, nil
}

// claimMembers are the members of a claim set, sorted by name. They alias it.
type claimMembers []claimMember

type claimMember struct {
	name  []byte
	value jsontext.Value
}

// UnmarshalJSONFrom reads an object; the decoder refuses names that repeat.
func (m *claimMembers) UnmarshalJSONFrom(dec *jsontext.Decoder) error {
	*m = make(claimMembers, 0, 6) // few tokens have more
	err := readObject(dec, func(quoted jsontext.Value) error {
		value, err := dec.ReadValue()
		*m = append(*m, claimMember{unquote(quoted), value})
		return err
	})
	slices.SortFunc(*m, func(a, b claimMember) int { return bytes.Compare(a.name, b.name) })
	return err
}

// parseClaims reads a claim set. Names must be unique (RFC 7519 §4) and
// members of the right kind: unlike a notification, a token is the app's own,
// and one that says something unclear is refused.
func parseClaims(set []byte) (*Claims, error) {
	c := &Claims{set: set}
	if json.Unmarshal(set, &c.members) != nil {
		return nil, jwt.ErrTokenMalformed // the JSON error is dropped: it may quote a claim
	}
	for _, m := range c.members {
		if !c.take(m.name, m.value) {
			return nil, jwt.ErrTokenMalformed
		}
	}
	return c, nil
}

func (c *Claims) take(name []byte, value jsontext.Value) (ok bool) {
	switch string(name) {
	case "iss":
		c.Issuer, ok = claimText(value)
	case "sub":
		c.Subject, ok = claimText(value)
	case "jti":
		c.ID, ok = claimText(value)
	case "aud":
		ok = json.Unmarshal(value, &c.Audience) == nil
	case "exp":
		c.ExpiresAt, ok = claimDate(value)
	case "nbf":
		c.NotBefore, ok = claimDate(value)
	case "iat":
		c.IssuedAt, ok = claimDate(value)
	case "organization_id":
		c.OrganizationID, ok = claimID(value)
	case "album_id":
		c.AlbumID, ok = claimID(value)
	case "user_id":
		c.UserID, ok = claimID(value)
	default:
		ok = true
	}
	return ok
}

func claimText(value jsontext.Value) (string, bool) {
	switch value.Kind() {
	case 'n':
		return "", true
	case '"':
		return string(unquote(value)), true
	}
	return "", false
}

// claimID reads an id, which a token may hold as a string or as a number.
func claimID(value jsontext.Value) (string, bool) {
	if value.Kind() == '0' {
		return string(value), true
	}
	return claimText(value)
}

// claimDate leaves to golang-jwt all but whole seconds, which all issuers
// write and which need no detour through floating point. A date beyond the years
// of four digits is an overflow, and might compare either way.
func claimDate(value jsontext.Value) (date *jwt.NumericDate, ok bool) {
	const lastSecond = 253402300799 // of the year 9999
	if value.Kind() == 'n' {
		return nil, true
	}
	if seconds, err := strconv.ParseInt(string(value), 10, 64); err == nil && seconds >= 0 && seconds <= lastSecond {
		return &jwt.NumericDate{Time: time.Unix(seconds, 0)}, true
	}
	date = new(jwt.NumericDate)
	return date, date.UnmarshalJSON(value) == nil && date.Year() >= 0 && date.Year() <= 9999
}

// A TokenVerifier proves whom a notification is for. The app issued the token
// itself, put it into the notification URL when it started the upload (see
// [SignToken] and [NotificationURL]), and gets it back with the notification.
//
// Only HS256 is accepted. The token is not bound to the body: any valid token
// admits any body that Cloudinary signed.
//
// The zero value refuses everything. A verifier is safe for concurrent use as
// long as its fields are not changed.
type TokenVerifier struct {
	// Keys are the HMAC keys, of at least 32 bytes each; any of them may have
	// signed, so that a key can be rotated. Everything is refused if there are
	// none, or if one of them is shorter: golang-jwt itself takes an empty key.
	// The same holds for a key that is text (valid UTF-8) and blank, or that has
	// white space, quotes or control characters around it. A key that is not
	// text, as 32 random bytes, may begin and end with any byte.
	//
	// A key is used as it is, not decoded: the 44 characters that
	// "openssl rand -base64 32" prints are a good one. Give webhook tokens a key
	// of their own, or an Audience: a session token signed with the same key
	// would pass as well.
	Keys [][]byte

	// Issuer and Audience, if set, must be the token's iss and among its aud.
	Issuer   string
	Audience string

	// RequireExpiry refuses tokens without exp. An exp that is there is always
	// honoured, and so is nbf. Leave room for Cloudinary's work and its retries,
	// the last of them 18 minutes after the first attempt.
	RequireExpiry bool

	// Require names claims that must be present and not empty, as "album_id".
	Require []string

	// Leeway is added on both sides when exp and nbf are compared with the clock.
	Leeway time.Duration

	// Now is the clock; nil means time.Now.
	Now func() time.Time

	// What golang-jwt needs of all this, built once by NewHandler for its copy;
	// otherwise nil, and built for each token.
	keys      jwt.Keyfunc
	validator *jwt.Validator
}

// tokenParser pins the algorithm, so that a token cannot choose its own check,
// and refuses base64 whose unused bits are set, so that a token has one
// spelling. It has no state and serves all verifiers. Claims are validated
// apart, after the signature held: a bad signature is final and never joined
// with a milder reason (CVE-2024-51744).
var tokenParser = jwt.NewParser(
	jwt.WithValidMethods([]string{jwt.SigningMethodHS256.Alg()}),
	jwt.WithStrictDecoding(),
	jwt.WithoutClaimsValidation(),
)

// Verify returns the claims of a token that one of the keys signed and that is
// valid now; on any error the claims are nil. Errors wrap [ErrMissingToken],
// [ErrNoSecrets], or [ErrInvalidToken] with golang-jwt's cause, such as
// jwt.ErrTokenExpired. None holds the token.
func (v *TokenVerifier) Verify(token string) (*Claims, error) {
	if v.validator == nil {
		if err := v.usable(); err != nil {
			return nil, err
		}
		v = v.prepared()
	}
	if token == "" {
		return nil, ErrMissingToken
	}
	// The decoder behind the parser refuses all that is not base64, except line
	// breaks, which it skips: they would give one token many spellings.
	if len(token) > maxTokenSize || strings.Contains(token, "\n") || strings.Contains(token, "\r") {
		return nil, fmt.Errorf("%w: %w", ErrInvalidToken, jwt.ErrTokenMalformed)
	}
	var raw rawClaims
	parsed, err := tokenParser.ParseWithClaims(token, &raw, v.keys)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalidToken, tokenCause(err))
	}
	for _, name := range []string{"crit", "b64"} {
		// Extensions that change what a signature means must be understood
		// or refused (RFC 7515 §4.1.11); golang-jwt looks at neither.
		if _, ok := parsed.Header[name]; ok {
			return nil, fmt.Errorf("%w: %w", ErrInvalidToken, jwt.ErrTokenUnverifiable)
		}
	}
	claims, err := parseClaims(raw.set)
	if err == nil {
		err = v.validate(claims)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalidToken, err)
	}
	return claims, nil
}

func (v *TokenVerifier) usable() error {
	if len(v.Keys) == 0 {
		return fmt.Errorf("%w: there are no token keys", ErrNoSecrets)
	}
	for i, key := range v.Keys {
		if what := keyOddity(key); what != "" {
			return fmt.Errorf("%w: token key %d of %d %s", ErrNoSecrets, i+1, len(v.Keys), what)
		}
	}
	return nil
}

// keyOddity is [oddity] for a token key. Only a key that is text can have
// something around it: random bytes may begin and end with any. That 32 of them
// are UTF-8 by chance happens once in a hundred million keys.
func keyOddity(key []byte) string {
	if len(key) < minKeySize {
		return fmt.Sprintf("has %d bytes, fewer than %d", len(key), minKeySize)
	}
	if utf8.Valid(key) {
		return oddity(string(key))
	}
	return ""
}

// prepared returns a copy that shares nothing with v and has all that golang-jwt
// needs.
func (v *TokenVerifier) prepared() *TokenVerifier {
	p := *v
	p.Require = slices.Clone(v.Require)
	p.Keys = make([][]byte, len(v.Keys))
	set := jwt.VerificationKeySet{Keys: make([]jwt.VerificationKey, len(v.Keys))}
	for i, key := range v.Keys {
		p.Keys[i] = slices.Clone(key)
		set.Keys[i] = p.Keys[i]
	}
	var keys any = set // boxed once, not for each token
	p.keys = func(*jwt.Token) (any, error) { return keys, nil }
	options := []jwt.ParserOption{
		jwt.WithLeeway(v.Leeway),
		jwt.WithTimeFunc(func() time.Time { return clock(p.Now) }),
	}
	if v.Issuer != "" {
		options = append(options, jwt.WithIssuer(v.Issuer))
	}
	if v.Audience != "" {
		options = append(options, jwt.WithAudience(v.Audience))
	}
	if v.RequireExpiry {
		options = append(options, jwt.WithExpirationRequired())
	}
	p.validator = jwt.NewValidator(options...)
	return &p
}

func (v *TokenVerifier) validate(claims *Claims) error {
	if err := v.validator.Validate(claims); err != nil {
		return err
	}
	for _, name := range v.Require {
		if !claims.has(name) {
			return fmt.Errorf("%w: %s", jwt.ErrTokenRequiredClaimMissing, name)
		}
	}
	return nil
}

// has reports whether a claim is there and says something.
func (c *Claims) has(name string) bool {
	for _, m := range c.members {
		if string(m.name) != name {
			continue
		}
		switch m.value.Kind() {
		case 'n':
			return false
		case '"':
			return len(m.value) > len(`""`)
		case '[', '{':
			return len(bytes.TrimSpace(m.value[1:])) > 1 // more than the closing bracket
		}
		return true
	}
	return false
}

// rawClaims has the parser hand over the claim set's bytes. It is never
// validated, so the embedded interface stays nil.
type rawClaims struct {
	jwt.Claims
	set []byte
}

func (c *rawClaims) UnmarshalJSON(set []byte) error {
	c.set = append([]byte(nil), set...)
	return nil
}

// tokenCause keeps the kind of the parser's error and drops its text, which may
// quote the token.
func tokenCause(err error) error {
	for _, cause := range []error{jwt.ErrTokenSignatureInvalid, jwt.ErrTokenUnverifiable} {
		if errors.Is(err, cause) {
			return cause
		}
	}
	return jwt.ErrTokenMalformed
}

// SignToken issues the token for a notification URL: *[Claims], or the app's
// own type, signed with HS256. A key that [TokenVerifier].Keys refuses is refused
// here too, with [ErrNoSecrets]; any other error is that of encoding the claims.
func SignToken(key []byte, c jwt.Claims) (string, error) {
	if what := keyOddity(key); what != "" {
		return "", fmt.Errorf("%w: the token key %s", ErrNoSecrets, what)
	}
	token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, c).SignedString(key)
	if err != nil {
		return "", fmt.Errorf("cloudinaryhook: signing a token: %w", err)
	}
	return token, nil
}

// NotificationURL adds the token to the endpoint: the result is the
// notification_url to upload with. A query that the endpoint has is kept as it
// is. An endpoint that is not an absolute http or https URL, or that has a
// token or a fragment already, and an empty token, are refused with
// [ErrInvalidURL]. The result is a bearer credential: do not log it.
func NotificationURL(endpoint, token string) (string, error) {
	u, err := url.Parse(endpoint)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return "", fmt.Errorf("%w: it is not an absolute http or https URL", ErrInvalidURL)
	}
	query, err := url.ParseQuery(u.RawQuery)
	switch {
	case err != nil:
		return "", fmt.Errorf("%w: its query is malformed", ErrInvalidURL)
	case query.Has(tokenParameter):
		return "", fmt.Errorf("%w: it has a token already", ErrInvalidURL)
	case strings.Contains(endpoint, "#"):
		return "", fmt.Errorf("%w: it has a fragment, which is never sent", ErrInvalidURL)
	case token == "":
		return "", fmt.Errorf("%w: the token is empty", ErrInvalidURL)
	}
	if u.RawQuery != "" {
		u.RawQuery += "&"
	}
	u.RawQuery += tokenParameter + "=" + url.QueryEscape(token)
	u.ForceQuery = false
	return u.String(), nil
}
