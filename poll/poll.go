// Package poll fetches Cloudinary's notifications, for apps that nobody outside
// can reach: a laptop, a private network, a batch job.
//
// If a notification trigger's uri_type is "poll", Cloudinary keeps its
// notifications instead of POSTing them. A [Client] receives each of them as a
// [Message], and acknowledges it. A [Receiver] does more: it receives messages
// with a Client, verifies each of them, gives it to a
// [cloudinaryhook.Processor] and acknowledges it.
//
// # Promises
//
// A Receiver acknowledges a message only after the Processor has accepted it,
// or [Receiver].Malformed has. Until then, Cloudinary delivers the message again
// each time that its visibility timeout has passed. So no message is lost if the
// app crashes, an answer is lost, or the app's database is down. A webhook
// notification, in contrast, is lost if its third retry fails.
//
// # Limits
//
// Messages may come in any order. Each may come more than once, even at the same
// time. The Store recognizes duplicates by Delivery.ID. If the app makes
// Image.Key unique, it has each image once, as with a Handler.
//
// A message has no URL, and so no token. [Receiver].ClaimsFor gives it claims.
//
// How long Cloudinary keeps a message is not published.
//
// # Where the facts come from
//
// The facts about the API were read on 25 November 2026 from pycloudinary
// 1.46.0 of 18 August 2026: cloudinary/api.py and test/test_notifications.py.
// No other public description was found.
package poll

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/cloudinaryhook/cloudinaryhook"
)

// Errors are sentinels, wrapped with context. None holds a secret, a URL, or
// text of an answer. If a setting of a Client or Receiver is wrong, its methods
// return an error that wraps [cloudinaryhook.ErrMisconfigured] or
// [cloudinaryhook.ErrNoSecrets].
var (
	// A retry does not help against these four.
	ErrUnauthorized   = errors.New("poll: the API refuses the credentials; check that APIKey and APISecret belong together and to the product environment CloudName")
	ErrNotFound       = errors.New("poll: the API does not know the address; check CloudName and BaseURL, and that the account can poll notifications")
	ErrRefused        = errors.New("poll: the API refuses the request")
	ErrAnswerTooLarge = errors.New("poll: the answer is larger than 64 MiB; ask for fewer messages at once")

	// ErrUnavailable is a temporary failure: no connection, a status 408, 420, 429
	// or 5xx, an answer that is cut off or is not JSON.
	ErrUnavailable = errors.New("poll: the API is not available")

	// ErrNotAcknowledged is explained at [Client.Acknowledge].
	ErrNotAcknowledged = errors.New("poll: some messages were not acknowledged and will come again")

	// ErrInvalidMessage is explained at [Message.Verify].
	ErrInvalidMessage = errors.New("poll: the message is incomplete")
)

// A Message is one notification as the API returns it. Do not trust anything in
// it before [Message.Verify]. It is safe to read concurrently.
//
// A field is empty if its JSON member is absent or of the wrong kind. The API
// also sends the body as JSON, in "payload". Those are not the signed bytes, so
// a Message does not have them.
type Message struct {
	// ReceiptHandle is the argument for [Client.Acknowledge]. If the same message
	// comes again, it may have another handle.
	ReceiptHandle string

	// BatchID is the batch that the message belongs to. It is not signed.
	BatchID string

	// Body is the signed bytes, decoded from "signed_payload", which is base64url
	// without padding. It is nil if the text cannot be decoded.
	Body []byte

	// Signature and Timestamp are the texts that a webhook has in the headers
	// X-Cld-Signature and X-Cld-Timestamp: a digest in hexadecimal, and Unix
	// seconds.
	Signature, Timestamp string
}

// Verify proves that Cloudinary signed the body, and returns the time of the
// signature: whole seconds, UTC. Pass the time and the body to
// [cloudinaryhook.NewDelivery].
//
// The error wraps [ErrInvalidMessage] if the message is incomplete. The cause is
// then a fault of the API or of a proxy, not a forgery. Other errors are those
// of v. Set v.MaxAge: its default of 2 hours is for webhooks, and a message may
// wait longer.
func (m *Message) Verify(v *cloudinaryhook.SignatureVerifier) (signedAt time.Time, err error) {
	missing := ""
	switch {
	case m.ReceiptHandle == "":
		missing = "receipt_handle"
	case len(m.Body) == 0:
		missing = "signed_payload in base64url without padding"
	case m.Signature == "":
		missing = "signature"
	case m.Timestamp == "":
		missing = "timestamp"
	}
	if missing != "" {
		return time.Time{}, fmt.Errorf("%w: it has no %s", ErrInvalidMessage, missing)
	}
	if err := v.Verify(m.Body, m.Timestamp, m.Signature); err != nil {
		return time.Time{}, err
	}
	seconds, _ := strconv.ParseInt(m.Timestamp, 10, 64) // Verify has parsed it
	return time.Unix(seconds, 0).UTC(), nil
}

// UnmarshalJSON reads a message as the API writes it. If a member does not fit,
// its field is left empty, so one malformed message does not affect the others.
// Verify says what is missing. The error is always nil.
func (m *Message) UnmarshalJSON(data []byte) error {
	var wire struct {
		ReceiptHandle string      `json:"receipt_handle"`
		BatchID       string      `json:"batch_id"`
		SignedPayload string      `json:"signed_payload"`
		Signature     string      `json:"signature"`
		Timestamp     json.Number `json:"timestamp"` // text; pycloudinary takes a number too, and so does this type
	}
	_ = json.Unmarshal(data, &wire) // skips members that do not fit; its error could quote them
	body, err := base64.RawURLEncoding.DecodeString(wire.SignedPayload)
	if err != nil {
		body = nil
	}
	*m = Message{wire.ReceiptHandle, wire.BatchID, body, wire.Signature, wire.Timestamp.String()}
	return nil
}
