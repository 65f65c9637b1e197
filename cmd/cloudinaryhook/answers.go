package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"
)

// seeLog ends the explanation of a 401.
const seeLog = `the receiver's log says why.
If the log has no line about it, something in front of the receiver asked for a login. If the line does
not help, record the request at the receiver, and run "cloudinaryhook explain" there.`

// answers explains what a status means, and what to do about it.
var answers = map[int]string{
	http.StatusNoContent: `something accepted it. The receiver itself answers 201 or 200. Cloudinary's documentation asks
for 200, so Cloudinary may take this for a failure and send it three more times.`,

	http.StatusBadRequest: `the body is wrong. Either it is signed, but it is not exactly one JSON object, or it repeats a
name at its top level. Then sending it again will not help. Or it was cut off on the way, before its
signature was checked. The receiver's log says which. If the log has no line about it, something in
front of the receiver answered.`,

	http.StatusUnauthorized: "refused: the receiver does not accept the signature or the token; " + seeLog,

	http.StatusForbidden: `something in front of the receiver refused it: a firewall, a proxy, CSRF protection. The
receiver itself never answers 403.`,

	http.StatusNotFound: `nothing is mounted at this path. Check the path of -url, and the method with which the
receiver is mounted: some routers answer 404 if the path has only another method.`,

	http.StatusMethodNotAllowed: `something is mounted at this path, but it does not accept POST.`,

	http.StatusRequestTimeout: `the body did not arrive within the receiver's Timeout. Cloudinary would send it again.`,

	http.StatusRequestEntityTooLarge: `the body is larger than the receiver's MaxBody (4 MiB), or than the limit of something in
front of it. Sending it again will not help; raise the limit.`,

	http.StatusInternalServerError: `not authenticated: the answer has no X-Delivery-ID. So the receiver failed before it had checked
everything: perhaps SecretsFor failed, or middleware has read the body before it. Or something in front
of the receiver failed. Only the log says which. Cloudinary would send it again.`,

	http.StatusBadGateway: `a proxy in front of the receiver could not reach it. Cloudinary would send it again.`,

	http.StatusServiceUnavailable: `the receiver is overloaded or not up, or a handler around it (http.TimeoutHandler) stopped
waiting. Cloudinary would send it again.`,

	http.StatusGatewayTimeout: `a proxy in front of the receiver stopped waiting. Cloudinary would send it again.`,
}

// genuineFailure explains an answer 500 with an X-Delivery-ID. A receiver gives
// one only if it has authenticated the notification.
const genuineFailure = `genuine, but the receiver failed: Save, CreateImage, Notify or Complete returned an error,
panicked or took too long. Its log says which. Cloudinary would send it again. If it was saved, it is
pending until then, or until Resume.`

// explanation is explainAttempt with the fault that this program knows about.
func (c *sendCommand) explanation(a attempt) string {
	cause := c.fault(time.Now())
	if a.err != nil || a.answer.Status != http.StatusUnauthorized || cause == "" {
		return explainAttempt(a)
	}
	return "refused: " + cause + "\nIf that is not why, " + seeLog
}

// fault returns a reason for a receiver to refuse, or "". This program cannot
// know the receiver's secret, its key, and which claims it asks for.
func (c *sendCommand) fault(now time.Time) string {
	const maxAge, maxSkew = 2 * time.Hour, 5 * time.Minute // the receiver's defaults
	exp := c.claims.date("exp")
	switch {
	case c.sender.Key == nil && !hasToken(c.sender.Endpoint):
		return "it was sent without a token. Only a Tokenless receiver accepts that."
	case !exp.IsZero() && now.After(exp):
		return "its token has expired: exp in the claims is " + exp.Format(time.RFC3339) + "."
	case c.sender.Age > maxAge:
		return fmt.Sprintf("its timestamp is %v old, and a receiver's MaxAge is %v unless set.", c.sender.Age, maxAge)
	case -c.sender.Age > maxSkew:
		return fmt.Sprintf("its timestamp is %v in the future, and a receiver's MaxSkew is %v unless set.", -c.sender.Age, maxSkew)
	}
	return ""
}

// explainAttempt explains the result of an attempt in plain words.
func explainAttempt(a attempt) string {
	if a.err != nil {
		return explainError(a.err)
	}
	if a.accepted() {
		return explainAccepted(a)
	}
	if a.answer.Status == http.StatusInternalServerError && a.answer.DeliveryID != "" {
		return genuineFailure
	}
	if text, ok := answers[a.answer.Status]; ok {
		return text
	}
	switch a.answer.Status / 100 {
	case 2:
		return answers[http.StatusNoContent]
	case 3:
		return fmt.Sprintf("redirected to %q. It is not known whether Cloudinary follows redirects: upload with the final URL.", a.answer.Location)
	case 4:
		return "something refused it. It was not the receiver, which never gives this answer."
	}
	return "something failed. Cloudinary would send it again."
}

func explainAccepted(a attempt) string {
	if a.answer.DeliveryID == "" {
		return `Accepted, but the answer has no X-Delivery-ID. So "cloudinaryhook listen" has
answered, which saves nothing, or something else is mounted there, or a proxy removes the header.`
	}
	return `Accepted and saved.
The receiver's store has it. The log and the store say what the app has done with it.
Delivery ` + printable(a.answer.DeliveryID)
}

func explainError(err error) string {
	if errors.Is(err, context.Canceled) {
		return "interrupted before an answer came."
	}
	if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() {
		return "none came in time. Cloudinary gives up after 20 s and would send it again; the receiver may have saved it."
	}
	return "nothing answered (" + printable(err.Error()) + "). Is the receiver up, and -url right?"
}
