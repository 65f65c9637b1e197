package main

// A cause is one reason why a request does not verify. docs/troubleshooting.md
// has a row for each cause; a test checks that.
type cause struct {
	id   string
	what string // a sentence
	do   string // one or two sentences
}

// causes are in the order in which explain shows them. Causes that a digest or
// a header proves come first, hints come last.
var causes = []cause{
	// Missing in the environment.
	{"secret-missing", "No API secret is set here.", "Set CLOUDINARY_API_SECRET to the receiver's secret."},
	{"key-missing", "No token key is set here.", "Set CLOUDINARYHOOK_TOKEN_KEY to the receiver's key, or give -tokenless."},

	// The request, before its signature.
	{"method", "The request is not a POST.", "Perhaps a redirect turned a POST into a GET. Then upload with the final URL. Otherwise the request is not from Cloudinary."},
	{"signature-v2", "There is only a signature of version 2, which nobody outside Cloudinary can verify.", "Set the trigger's auth_scheme to default."},
	{"signature-dropped", "There is a timestamp, but no signature.", "If the trigger's auth_scheme is eddsa_v2, set it to default: a proxy such as nginx drops headers with an underscore. Otherwise let the proxy pass X-Cld-Signature on."},
	{"signature-missing", "There are no signature headers at all.", "The request is not from Cloudinary, or a proxy passes on only the headers that it knows. Let it pass on X-Cld-Signature and X-Cld-Timestamp too."},
	{"signature-repeated", "A signature header came more than once.", "A proxy adds it again: set it there once, or not at all."},
	{"body-empty", "The body is empty.", "Middleware that parses forms or logs bodies read it first. Mount the handler before this middleware."},

	// Causes that a digest proves.
	{"secret-newline", "The secret has a newline at its end.", "Remove it. echo writes one into a file, but printf %s does not."},
	{"secret-quotes", "The secret has quotes around it.", "Remove them. A shell removes quotes, but .env files and docker --env-file often do not."},
	{"secret-space", "The secret has white space or control characters around it.", "Remove them. They were probably copied with the secret."},
	{"secret-base64", "The secret is encoded as base64.", "Decode it. A Kubernetes Secret holds base64 under data, and plain text under stringData."},
	{"secret-hex", "The secret is encoded as hexadecimal.", "Decode it."},
	{"secret-percent", "The secret is percent-encoded.", "Decode it: it was probably copied from a URL."},
	{"secret-more", "The value holds more than the secret.", "Set the variable to the secret alone. A CLOUDINARY_URL is cloudinary://KEY:SECRET@CLOUD."},
	{"secret-swapped", "Another variable holds the secret.", "The values are swapped, or one was copied into the wrong variable."},
	{"body-newline", "A newline at the end of the body was added or removed.", "Pass on the bytes as they came. Editors and echo add a newline. Templates and trim remove it."},
	{"body-space", "White space around the body was added or removed.", "Pass on the bytes as they came, without trimming."},
	{"body-bom", "A byte order mark was added to the body, or removed.", "Pass on the bytes as they came: something decoded the body to text and wrote it as \"UTF-8 with BOM\"."},
	{"body-crlf", "The line breaks in the body were changed between LF and CRLF.", "Pass on the bytes as they came: something treats the body as text, as git or FTP does."},
	{"body-whitespace", "The JSON was decoded and encoded again, with other white space.", "Verify the bytes as they came, before a JSON parser: express.raw() before express.json(), io.ReadAll, file_get_contents(\"php://input\"), request.get_data(), request.raw_post."},
	{"body-slashes", "The JSON was decoded and encoded again, and that changed how slashes are escaped.", "Verify the bytes as they came. PHP's json_encode escapes slashes."},
	{"body-unicode", "The JSON was decoded and encoded again, and that changed how characters beyond ASCII are escaped.", "Verify the bytes as they came. PHP's json_encode and Python's json.dumps escape them."},
	{"body-html", "The JSON was decoded and encoded again, and that changed how <, > and & are escaped.", "Verify the bytes as they came. Go's encoding/json escapes them."},
	{"body-reencoded", "The JSON was decoded and encoded again.", "Verify the bytes as they came, before a JSON parser sees them."},
	{"body-gzip", "The body was compressed or decompressed on the way.", "The signature is over the bytes that Cloudinary sent. Do not let the proxy change request bodies. If the proxy compressed the body, decompress it before the handler."},
	{"body-latin1", "The body was decoded as Latin-1 and encoded as UTF-8, or the other way round.", "Pass on bytes, not text. On AWS, let API Gateway pass bodies as base64."},
	{"body-base64", "The body is the base64 of the bytes that were signed.", "Decode it before the handler. API Gateway and Lambda do so if isBase64Encoded is set."},
	{"body-percent", "The body was percent-encoded or decoded.", "Read the body as bytes. The Content-Type says form, but the body is JSON."},
	{"body-none", "The signature is over an empty body.", "The sender signs before it has the body, or signs something else."},
	{"digest-hmac", "The sender signs with an HMAC.", "Cloudinary signs with a plain digest of body, timestamp and secret. Fix the sender, or use cloudinaryhook.Sign there."},
	{"digest-no-timestamp", "The sender signs without the timestamp.", "Cloudinary signs body, timestamp and secret. Fix the sender."},
	{"digest-timestamp", "The sender signs with another timestamp than the one in X-Cld-Timestamp.", "Sign the header's text as it is sent, in seconds."},
	{"digest-order", "The sender signs the right parts in another order.", "The order is body, timestamp, secret. Fix the sender."},
	{"digest-algorithm", "The sender signs with another hash.", "Only SHA-1 and SHA-256 are accepted. Fix the sender."},
	{"digest-base64", "The signature is base64 and not hexadecimal.", "Cloudinary's signature is hexadecimal. Fix the sender, or the proxy that changes headers."},
	{"digest-prefix", "The signature has something before or after the digest.", "Send the hexadecimal digest alone, as Cloudinary does."},
	{"sha1-refused", "The signature is SHA-1, and the receiver accepts SHA-256 only.", "Ask Cloudinary's support to switch the environment to SHA-256. Do not set SHA256Only before that."},

	// The body itself.
	{"body-large", "The body is larger than 4 MiB, the limit unless MaxBody is set.", "Raise Config.MaxBody, and the limits of proxies and middleware before the handler."},
	{"body-malformed", "The body is signed, but it is not one JSON object with unique names.", "A trigger with a payload_template makes such bodies. Fix the template."},

	// The timestamp.
	{"timestamp-missing", "There is no timestamp.", "A proxy drops it, or the sender is not Cloudinary. Let the proxy pass X-Cld-Timestamp on."},
	{"timestamp-milliseconds", "The timestamp is in milliseconds.", "Cloudinary's timestamp is in seconds. Fix the sender."},
	{"timestamp-odd", "The timestamp is not a plain decimal number.", "It must be Unix seconds, without sign, space or leading zero."},
	{"stale", "The request was signed too long ago.", "If it is a replay, sign it again: cloudinaryhook send FILE. If not, set the clock. If requests wait in a queue, raise MaxAge."},
	{"future", "The request was signed in the future.", "Set this machine's clock, or the sender's. Both need NTP."},

	// The token.
	{"token-amp", "The URL has &amp;token= instead of &token=.", "The notification URL was escaped for HTML: use it as NotificationURL returns it."},
	{"token-question", "The URL has a second question mark before the token.", "The endpoint has a query already. NotificationURL adds the token to it correctly."},
	{"token-encoded", "The token is encoded twice.", "Put the notification URL into the upload as it is. NotificationURL has escaped it already."},
	{"token-missing", "The URL has no token.", "Upload with the notification_url that NotificationURL returns. If the URL is a trigger's, from the console, put a token into it, or make the receiver Tokenless."},
	{"token-repeated", "The URL has more than one token.", "Add it once: NotificationURL refuses a URL that has one."},
	{"token-long", "The token is longer than 8 KiB.", "Put less into its claims, for example an ID instead of a whole record."},
	{"token-quotes", "The token has quotes or white space around it.", "Remove them where the URL is put together."},
	{"token-hidden", "The token was hidden, by a log or by hidetoken.From.", "If the handler gets the request like this, wrap the handler in hidetoken.ShowTo. If a log has the request like this, record the request itself."},
	{"token-more", "The token has other text around it.", "Copy the URL or the token alone. In a URL, & separates parameters."},
	{"token-cut", "The token is cut off.", "A database column, a log or a copied line kept only its beginning."},
	{"token-not", "The text in the URL is not a token.", "Make it with SignToken or \"cloudinaryhook token\"."},
	{"token-expired", "The token has expired.", "Give it more time, for Cloudinary's work and for retries until about 18 minutes after the first attempt. \"token -expires 2h\" is enough for most."},
	{"token-early", "The token is not valid yet.", "Set the clocks, or leave nbf out."},
	{"token-milliseconds", "A time in the token is in milliseconds.", "JWT uses seconds. Divide by 1,000."},
	{"token-kind", "A claim that must be text is not text.", "Put it into quotes where the token is made."},
	{"token-endless", "The token has no exp, and the receiver requires one.", "Add exp to it, or do not set RequireExpiry."},
	{"token-claims", "The token lacks claims that the receiver requires.", "Put them into the token. They must not be empty."},
	{"token-issuer", "The token's iss is not the receiver's Issuer.", "Make both the same."},
	{"token-audience", "The token's aud does not have the receiver's Audience.", "Make both the same."},
	{"token-algorithm", "The token's algorithm is not HS256.", "Have the issuer sign with HS256. Some libraries choose HS512 for a key of 64 bytes."},
	{"token-padding", "The token's base64 has padding.", "A JWT has none. Use a JWT library to make it."},
	{"token-header", "The token's header asks for an extension.", "Leave crit and b64 out of it."},
	{"token-malformed", "The package cannot read the token's claims.", "Make the token with SignToken, which refuses claims that Verify would refuse."},
	{"key-short", "The token key has fewer than 32 bytes.", "Make a new one: openssl rand -base64 32."},
	{"key-newline", "The token key has a newline at its end.", "Remove it. echo writes one into a file, but printf %s does not."},
	{"key-quotes", "The token key has quotes around it.", "Remove them. A shell removes quotes, but .env files and docker --env-file often do not."},
	{"key-space", "The token key has white space or control characters around it.", "Remove them. They were probably copied with the key."},
	{"key-base64", "One side decodes the token key as base64, and the other does not.", "This package uses a key as it is. Decode the key before you give it to the package, or do not decode it where tokens are made."},
	{"key-hex", "One side decodes the token key as hexadecimal, and the other does not.", "This package uses a key as it is. Decode the key before you give it to the package, or do not decode it where tokens are made."},
	{"key-percent", "The token key is percent-encoded.", "Decode it: it was probably copied from a URL."},
	{"key-more", "The value holds more than the token key.", "Set the variable to the key alone."},
	{"key-odd", "The token key has something around it that the package refuses.", "Make a new one: openssl rand -base64 32. Set it without quotes and white space."},
	{"key-other", "The token was signed with another key.", "Where tokens are made, use the receiver's key. During a rotation, keep the old key in Keys."},

	// Hints, if no digest matches.
	{"stale-now", "This recording is older than MaxAge, which is 2 hours unless set.", "It is not known when the request came. Give that time with -at. If it came just now, see stale."},
	{"secret-odd", "The secret has something around it that the package refuses.", "Copy it from the console again, without quotes and white space."},
	{"signature-length", "The signature is not a digest: it is neither 40 nor 64 hexadecimal characters.", "It is not Cloudinary's, or a proxy has changed it."},
	{"body-cut", "The body is cut off.", "A proxy or a reader has a limit that cuts the body. Raise the limit. The largest body that Cloudinary or its users have published has 15 KB, but an asset with much metadata can have more."},
	{"other-api-key", "The body names the API key whose secret has signed it.", "Set the secret of that key. It is the key for webhooks if the environment has one, or else the oldest active key."},
	{"body-encoding", "The request has a Content-Encoding.", "Perhaps something decompressed the body on the way. The signature is over the bytes that Cloudinary sent. Do not let the proxy change request bodies."},
	{"body-sorted", "The names in the body are in alphabetical order, on every level.", "Cloudinary does not sort them. Something decoded the JSON into a map and encoded it again. Verify the bytes as they came."},
	{"body-replaced", "The body has replacement characters (U+FFFD).", "Bytes that are not UTF-8 were replaced on the way. Pass on bytes, not text."},
	{"body-numbers", "The body has numbers such as 1.5e+09.", "Something decoded them as floating point and encoded them again. Verify the bytes as they came."},
	{"path-slashes", "The URL's path has two slashes together.", "Routers redirect such a URL or answer 404. Remove one: the base URL ends with a slash."},
	{"unknown", "Another secret has signed the body, or it was changed in a way that was not tried.", ""},
}

// rank maps the ID of a cause to its position in causes.
var rank = func() map[string]int {
	m := make(map[string]int, len(causes))
	for i, c := range causes {
		m[c.id] = i
	}
	return m
}()

// A finding is a cause that was found, with details of this request.
type finding struct {
	cause
	detail string
}
