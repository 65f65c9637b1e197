package cloudinaryhooktest

import (
	"net/http"
	"net/http/httptest"
	"time"
)

// A PollFault changes how a PollServer answers one request. It is middleware:
// the handler next answers without the fault. A nil PollFault changes nothing.
// The functions whose names begin with Fault are the usual faults. You can write
// others.
type PollFault func(next http.Handler) http.Handler

// FailReceive makes the next requests for messages fail with these faults, one
// for each request, in this order, after the faults of earlier calls.
func (s *PollServer) FailReceive(faults ...PollFault) { s.fail(http.MethodGet, faults) }

// FailAcknowledge does the same as FailReceive for requests that acknowledge
// messages.
func (s *PollServer) FailAcknowledge(faults ...PollFault) { s.fail(http.MethodPost, faults) }

// FaultStatus answers with another status. It sets Retry-After unless
// retryAfter is "".
func FaultStatus(status int, retryAfter string) PollFault {
	return func(http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			if retryAfter != "" {
				w.Header().Set("Retry-After", retryAfter)
			}
			answerError(w, status, "a fault of the test")
		})
	}
}

// FaultHTML answers 200 with a page of HTML, as a proxy does.
func FaultHTML(http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = w.Write([]byte("<html><body>Please sign in</body></html>"))
	})
}

// FaultLost handles the request, and then ends the connection without an
// answer.
func FaultLost(next http.Handler) http.Handler {
	return http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		next.ServeHTTP(httptest.NewRecorder(), r)
		panic(http.ErrAbortHandler)
	})
}

// FaultCut handles the request, and then ends the connection in the middle of
// the answer.
func FaultCut(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		whole := httptest.NewRecorder()
		next.ServeHTTP(whole, r)
		_, _ = w.Write(whole.Body.Bytes()[:whole.Body.Len()/2])
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	})
}

// FaultSlow waits for d and then answers. If the client ends the request before
// that, it does not answer.
func FaultSlow(d time.Duration) PollFault {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			select {
			case <-r.Context().Done():
			case <-time.After(d):
				next.ServeHTTP(w, r)
			}
		})
	}
}

func (s *PollServer) fail(method string, faults []PollFault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults[method] = append(s.faults[method], faults...)
}

func (s *PollServer) withFaults(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if fault := s.nextFault(r.Method); fault != nil {
			fault(next).ServeHTTP(w, r)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func (s *PollServer) nextFault(method string) PollFault {
	s.mu.Lock()
	defer s.mu.Unlock()
	queue := s.faults[method]
	if len(queue) == 0 {
		return nil
	}
	s.faults[method] = queue[1:]
	return queue[0]
}
