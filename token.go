package cloudinaryhook

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	jsonv2 "github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	jsonv1 "github.com/go-json-experiment/json/v1"
	"github.com/golang-jwt/jwt/v5"

	"github.com/cloudinaryhook/cloudinaryhook/internal/lenient"
	"github.com/cloudinaryhook/cloudinaryhook/internal/secrets"
)

const (
	tokenParameter = "token" // of the URL's query

	minKeySize   = 32      // bytes; RFC 7518 §3.2: a key of the hash's size or larger
	maxTokenSize = 8 << 10 // bytes; what common servers allow a request line to have
)

// Claims says who a notification is for: the verified claims of the token in
// its URL. The registered claims, such as Issuer and ExpiresAt, are those of
// RFC 7519; exp, nbf and iat are Unix seconds on the wire. Names of claims must
// match exactly, here and in [Claims.Decode]: "ALBUM_ID" is not "album_id".
//
// Claims has no JSON methods, so an app's own claims type may embed it. For
// other claims of the token, use [Claims.Decode]. This package does not change
// verified claims, so they are safe to read concurrently. Do not change an id in
// them or in a copy: [NewDelivery] refuses it. Make new Claims instead.
type Claims struct {
	jwt.RegisteredClaims

	// In the token, an id may be a string or a number. A number is kept as its
	// text, so that 64-bit ids stay exact. An id that is not there is empty.
	OrganizationID string `json:"organization_id,omitempty"`
	AlbumID        string `json:"album_id,omitempty"`
	UserID         string `json:"user_id,omitempty"`

	// set is the whole claim set as it was signed. It is nil in claims made by
	// hand: their fields are all that they have.
	set     jsontext.Value
	members claimMembers // of set
	signed  [3]string    // ids when set was read
}

func (c *Claims) ids() [3]string { return [...]string{c.OrganizationID, c.AlbumID, c.UserID} }

// decodeAsV1 has the rules of encoding/json except one: encoding/json also takes
// "ALBUM_ID" for "album_id". Then an app could read another album than this package.
var decodeAsV1 = jsonv2.JoinOptions(jsonv1.DefaultOptionsV1(), jsonv2.MatchCaseInsensitiveNames(false),
	jsonv2.WithUnmarshalers(jsonv2.UnmarshalFunc(func(value []byte, n *json.Number) error {
		return json.Unmarshal(value, n) // json/v2 outside the standard library does not know this type
	})))

// Decode stores the token's whole claim set in v, a pointer to the app's own
// type. The rules are those of encoding/json, except that names must match
// exactly. So a field needs a tag, unless it has the same name as the claim.
// For verified claims, Decode reads the token, even if the fields were changed.
// For claims made by hand, it reads the fields. The error says which claim does
// not fit v.
func (c *Claims) Decode(v any) (err error) {
	if c.set == nil {
		if c, err = c.whole(); err != nil {
			return err
		}
	}
	return jsonv2.Unmarshal(c.set, v, decodeAsV1)
}

// whole returns c if it has its claim set. Claims made by hand get one. A verified
// set says who a delivery is for, whatever its fields say later. So if the app has
// changed an id, whole returns an error, because the app expects the new one.
func (c *Claims) whole() (*Claims, error) {
	switch {
	case c.set != nil && c.ids() == c.signed:
		return c, nil
	case c.set != nil:
		return nil, fmt.Errorf("%w: an id of its verified claims was changed; make new Claims instead", ErrInvalidDelivery)
	}
	set, err := jsonv2.Marshal(c) // text that is not UTF-8 is an error
	if err != nil {
		return nil, fmt.Errorf("%w: its claims: %w", ErrInvalidDelivery, err)
	}
	if c, err = parseClaims(set); err != nil {
		err = fmt.Errorf("%w: its claims: %w", ErrInvalidDelivery, err)
	}
	return c, err
}

// scope names the tenant. It is the claim set without the claims that differ from
// token to token of one tenant. It is JSON without white space, with the names of
// every object sorted, and the text of numbers as it came, so that two ids above
// 2^53 stay different. The claims must be whole.
func (c *Claims) scope() string {
	var buf [256]byte // enough for most, and no allocation
	scope := append(buf[:0], '{')
	for _, m := range c.members {
		switch string(m.name) {
		case "iat", "nbf", "exp", "jti":
			continue
		}
		if len(scope) > 1 {
			scope = append(scope, ',')
		}
		scope, _ = jsontext.AppendQuote(scope, m.name)
		scope = append(append(scope, ':'), m.value...)
	}
	scope = append(scope, '}')
	// The members are sorted, so most scopes are in this form already. Only
	// objects, lists, escapes and characters beyond ASCII can have another one.
	if !slices.ContainsFunc(scope[1:], func(c byte) bool { return c == '{' || c == '[' || c == '\\' || c >= utf8.RuneSelf }) {
		return string(scope)
	}
	formatted := jsontext.Value(bytes.Clone(scope))
	_ = formatted.Format(jsontext.ReorderRawObjects(true)) // it was valid in the set
	return string(formatted)
}

// claimMembers are the members of a claim set, sorted by name. They share its bytes.
type claimMembers []claimMember

type claimMember struct {
	name  []byte
	value jsontext.Value
}

// UnmarshalJSONFrom reads an object; the decoder refuses names that repeat.
func (m *claimMembers) UnmarshalJSONFrom(dec *jsontext.Decoder) error {
	*m = make(claimMembers, 0, 6) // few tokens have more
	err := lenient.Object(dec, func(quoted jsontext.Value) error {
		value, err := dec.ReadValue()
		*m = append(*m, claimMember{lenient.Unquote(quoted), value})
		return err
	})
	slices.SortFunc(*m, func(a, b claimMember) int { return bytes.Compare(a.name, b.name) })
	return err
}

// blank reports whether the claim says nothing: it is null, or text, a list or an
// object with nothing in it.
func (m claimMember) blank() bool {
	text := []byte(m.value)
	if m.value.Kind() == '"' {
		text = lenient.Unquote(m.value)
	}
	return m.value.Kind() == 'n' || len(bytes.TrimFunc(text, func(r rune) bool { return unicode.IsSpace(r) || strings.ContainsRune("[]{},\"", r) })) == 0
}

// claimFields are the claims that have a field.
var claimFields = map[string]func(*Claims) any{
	"iss":             func(c *Claims) any { return &c.Issuer },
	"sub":             func(c *Claims) any { return &c.Subject },
	"jti":             func(c *Claims) any { return &c.ID },
	"aud":             func(c *Claims) any { return &c.Audience },
	"exp":             func(c *Claims) any { return &c.ExpiresAt },
	"nbf":             func(c *Claims) any { return &c.NotBefore },
	"iat":             func(c *Claims) any { return &c.IssuedAt },
	"organization_id": func(c *Claims) any { return &c.OrganizationID },
	"album_id":        func(c *Claims) any { return &c.AlbumID },
	"user_id":         func(c *Claims) any { return &c.UserID },
}

// parseClaims reads a claim set. Names must be unique (RFC 7519 §4), and members
// of the right kind. The app writes its tokens itself, unlike notifications, so an
// unclear one is refused.
func parseClaims(set []byte) (*Claims, error) {
	c := &Claims{set: set}
	if jsonv2.Unmarshal(set, &c.members) != nil { // its error may quote a claim
		return nil, malformed("its claims are not one JSON object with unique names, in UTF-8")
	}
	for _, m := range c.members {
		if field, ok := claimFields[string(m.name)]; ok && m.value.Kind() != 'n' {
			if what := m.store(field(c)); what != "" {
				return nil, malformed(string(m.name) + " is " + what)
			}
		}
	}
	c.signed = c.ids()
	return c, nil
}

func malformed(what string) error { return fmt.Errorf("%w: %s", jwt.ErrTokenMalformed, what) }

// store sets a field to the claim's value, and says what is wrong if it does
// not fit.
func (m claimMember) store(field any) (wrong string) {
	switch field := field.(type) {
	case *string:
		switch kind := m.value.Kind(); {
		case kind == '"':
			*field = string(lenient.Unquote(m.value))
		case kind == '0' && bytes.HasSuffix(m.name, []byte("_id")):
			*field = string(m.value)
		default:
			return "of the wrong kind"
		}
	case *jwt.ClaimStrings:
		if jsonv2.Unmarshal(m.value, field) != nil {
			return "of the wrong kind"
		}
	case **jwt.NumericDate:
		// Issuers write whole seconds, which need no floating point. A date beyond
		// these years would overflow, and then it could be before or after any other.
		const yearZero, lastSecond = -62167219200, 253402300799 // of the year 9999
		seconds, err := strconv.ParseInt(string(m.value), 10, 64)
		*field = &jwt.NumericDate{Time: time.Unix(seconds, 0)}
		if err != nil && (*field).UnmarshalJSON(m.value) != nil || (*field).Unix() < yearZero || (*field).Unix() > lastSecond {
			return "not Unix seconds of the years 0 to 9999; is it in milliseconds?"
		}
	}
	return ""
}

// A TokenVerifier proves who a notification is for. The app issued the token
// itself, put it into the notification URL when it started the upload (see
// [SignToken] and [NotificationURL]), and gets it back with the notification.
//
// Only HS256 is accepted. The token is not tied to the body: a valid token is
// accepted with any body that Cloudinary signed.
//
// The zero value refuses everything. A verifier is safe for concurrent use as
// long as its fields are not changed.
type TokenVerifier struct {
	// Keys are the HMAC keys, of at least 32 bytes each. A token is accepted if
	// any of them signed it, so that a key can be rotated. If there are none, or
	// one is shorter, everything is refused, because golang-jwt itself accepts an
	// empty key. If a key is text (valid UTF-8), the rules of
	// [SignatureVerifier].Secrets hold for it. A key of random bytes may begin
	// and end with any byte.
	//
	// A key is used as it is, not decoded. A good one is the 44 characters of
	// "openssl rand -base64 32". Use a separate key for webhook tokens, or an
	// Audience. Otherwise a session token signed with the same key is accepted.
	Keys [][]byte

	// If set, Issuer must be the token's iss, and Audience must be in its aud.
	Issuer   string
	Audience string

	// RequireExpiry refuses tokens without exp. If a token has exp or nbf, they
	// always count. Let tokens expire late enough for Cloudinary's work and its
	// retries: the last comes about 18 minutes after the first attempt.
	RequireExpiry bool

	// Require names claims that must be present and neither empty nor blank, such
	// as "album_id".
	Require []string

	// Leeway is how much the clock may differ when exp and nbf are checked.
	Leeway time.Duration

	// Now is the clock; nil means time.Now.
	Now func() time.Time

	// What golang-jwt needs of all this. NewHandler builds it once, for its copy.
	// Otherwise it is nil, and is built for each token.
	keys      any // a jwt.VerificationKeySet
	validator *jwt.Validator
}

// tokenParser fixes the algorithm, so that a token cannot choose how it is checked.
// It refuses base64 whose unused bits are set, so that a token has one spelling. It
// has no state and serves all verifiers. Claims are validated after the signature,
// so the error for a wrong signature never names a milder reason (CVE-2024-51744).
var tokenParser = jwt.NewParser(
	jwt.WithValidMethods([]string{jwt.SigningMethodHS256.Alg()}),
	jwt.WithStrictDecoding(),
	jwt.WithoutClaimsValidation(),
)

// Verify returns the claims of a token that one of the keys signed and that is
// valid now; on any error the claims are nil. Errors wrap [ErrMissingToken],
// [ErrNoSecrets], or [ErrInvalidToken] with golang-jwt's cause, such as
// jwt.ErrTokenExpired, and say what is wrong with the token. No error holds the
// token.
func (v *TokenVerifier) Verify(token string) (_ *Claims, err error) {
	if v.validator == nil {
		if v, err = v.prepared(); err != nil {
			return nil, err
		}
	}
	if token == "" {
		return nil, ErrMissingToken
	}
	claims, err := openToken(token, v.keys)
	if err == nil {
		err = v.validate(claims)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalidToken, err)
	}
	return claims, nil
}

// openToken returns the claims of a token that one of the keys signed. It does not
// look at the time.
func openToken(token string, keys any) (*Claims, error) {
	// The parser's decoder skips line breaks, so one token would have many
	// spellings. It refuses an equals sign too, but does not say why.
	switch {
	case len(token) > maxTokenSize:
		return nil, malformed(fmt.Sprintf("it has %d bytes, more than %d", len(token), maxTokenSize))
	case strings.Contains(token, "\n") || strings.Contains(token, "\r") || strings.Contains(token, "="):
		return nil, malformed("it has a line break or an equals sign, and a JWT has neither")
	}
	var raw rawClaims
	parsed, err := tokenParser.ParseWithClaims(token, &raw, func(*jwt.Token) (any, error) { return keys, nil })
	if err != nil {
		return nil, tokenCause(parsed, err)
	}
	for _, name := range []string{"crit", "b64"} {
		// Extensions that change what a signature means must be understood
		// or refused (RFC 7515 §4.1.11); golang-jwt looks at neither.
		if _, ok := parsed.Header[name]; ok {
			return nil, fmt.Errorf("%w: it has %s in its header", jwt.ErrTokenUnverifiable, name)
		}
	}
	return parseClaims(raw.Value)
}

// rawClaims gets the bytes of the claim set from the parser. It is never validated,
// so the embedded interface stays nil.
type rawClaims struct {
	jwt.Claims
	jsontext.Value
}

// tokenCause keeps the kind of the parser's error and drops its text, which may
// quote the token. It names an algorithm only if golang-jwt knows it, because any
// other name is the sender's text.
func tokenCause(parsed *jwt.Token, err error) error {
	switch {
	case parsed != nil && parsed.Method != nil && parsed.Method != jwt.SigningMethodHS256:
		return fmt.Errorf("%w: its alg is %s, only HS256 is accepted", jwt.ErrTokenSignatureInvalid, parsed.Method.Alg())
	case errors.Is(err, jwt.ErrTokenUnverifiable):
		return fmt.Errorf("%w: its alg is missing or unknown, only HS256 is accepted", jwt.ErrTokenUnverifiable)
	case errors.Is(err, jwt.ErrTokenSignatureInvalid):
		return jwt.ErrTokenSignatureInvalid
	}
	return jwt.ErrTokenMalformed
}

// keyOddity is secrets.Oddity for a token key. Only a key that is text can have
// something around it: random bytes may begin and end with any byte. One in a
// hundred million keys of 32 random bytes is valid UTF-8.
func keyOddity(key []byte) string {
	if len(key) < minKeySize {
		return fmt.Sprintf("has %d bytes, fewer than %d", len(key), minKeySize)
	}
	if utf8.Valid(key) {
		return secrets.Oddity(string(key))
	}
	return ""
}

// prepared returns a copy with all that golang-jwt needs. Later changes to v do not
// reach it. The error says which key is not usable.
func (v *TokenVerifier) prepared() (*TokenVerifier, error) {
	if err := checkSecrets("token key", v.Keys, keyOddity); err != nil {
		return nil, err
	}
	p := *v
	p.Require = slices.Clone(v.Require)
	var set jwt.VerificationKeySet
	for _, key := range v.Keys {
		set.Keys = append(set.Keys, slices.Clone(key))
	}
	p.keys = set
	options := []jwt.ParserOption{
		jwt.WithLeeway(v.Leeway),
		jwt.WithTimeFunc(v.Now),
		jwt.WithIssuer(v.Issuer), // "": any
	}
	if v.Audience != "" {
		options = append(options, jwt.WithAudience(v.Audience))
	}
	if v.RequireExpiry {
		options = append(options, jwt.WithExpirationRequired())
	}
	p.validator = jwt.NewValidator(options...)
	return &p, nil
}

func (v *TokenVerifier) validate(claims *Claims) error {
	if err := v.validator.Validate(claims); err != nil {
		return err
	}
	for _, name := range v.Require {
		i := slices.IndexFunc(claims.members, func(m claimMember) bool { return string(m.name) == name && !m.blank() })
		if i < 0 {
			return fmt.Errorf("%w: %s", jwt.ErrTokenRequiredClaimMissing, name)
		}
	}
	return nil
}

// SignToken makes the token for a notification URL. It signs c, a *[Claims] or
// the app's own type, with HS256. The error wraps [ErrNoSecrets] if
// [TokenVerifier].Keys refuses the key. It wraps [ErrInvalidToken] if
// [TokenVerifier.Verify] would always refuse the token: a claim is of the wrong
// kind, or the token is longer than 8 KiB. Any other error comes from encoding
// the claims.
func SignToken(key []byte, c jwt.Claims) (string, error) {
	if what := keyOddity(key); what != "" {
		return "", fmt.Errorf("%w: the token key %s", ErrNoSecrets, what)
	}
	token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, c).SignedString(key)
	if err != nil {
		return "", fmt.Errorf("cloudinaryhook: signing a token: %w", err)
	}
	if _, err = openToken(token, key); err != nil {
		return "", fmt.Errorf("%w: %w", ErrInvalidToken, err)
	}
	return token, nil
}

// NotificationURL adds the token to the endpoint: the result is the
// notification_url to upload with. It keeps the endpoint's own query. The error
// wraps [ErrInvalidURL] if the endpoint is not an absolute http or https URL,
// or has a token or a fragment already. It also does if the path has "//",
// "/./" or "/../", because many servers redirect such a path, or if the token
// is empty or longer than 8 KiB. Anybody who has the result can use its token,
// so do not log it.
func NotificationURL(endpoint, token string) (string, error) {
	refuse := func(why string) (string, error) { return "", fmt.Errorf("%w: %s", ErrInvalidURL, why) }
	u, err := url.Parse(endpoint)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return refuse("it is not an absolute http or https URL")
	}
	query, err := url.ParseQuery(u.RawQuery)
	switch {
	case err != nil:
		return refuse("its query is malformed")
	case query.Has(tokenParameter):
		return refuse("it has a token already")
	case strings.Contains(endpoint, "#"):
		return refuse("it has a fragment, which is never sent")
	case u.Path != "" && u.EscapedPath() != u.JoinPath().EscapedPath():
		return refuse("its path has //, /./ or /../, which servers redirect")
	case token == "" || len(token) > maxTokenSize:
		return refuse(fmt.Sprintf("the token has %d bytes, want 1 to %d", len(token), maxTokenSize))
	}
	if u.RawQuery != "" {
		u.RawQuery += "&"
	}
	u.RawQuery += tokenParameter + "=" + url.QueryEscape(token)
	return u.String(), nil
}
