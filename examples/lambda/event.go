package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"net/http"
	"net/url"
	"strings"
)

// An event is about an HTTP request, or comes from a schedule. These services
// make events of HTTP requests:
//
//   - API Gateway with payload 1.0: the query is decoded
//   - a load balancer: the same, but the query is not decoded
//   - API Gateway with payload 2.0, and a function URL
//
// The type has the members that the hook needs. There are libraries that
// convert all of HTTP, but here the exact bytes of query and body matter.
type event struct {
	Headers         map[string]string `json:"headers"`
	Body            string            `json:"body"`
	IsBase64Encoded bool              `json:"isBase64Encoded"`
	RequestContext  struct {
		ELB  *struct{} `json:"elb"` // set by a load balancer
		HTTP struct {
			Method string `json:"method"`
		} `json:"http"` // 2.0
	} `json:"requestContext"`

	RawQueryString string `json:"rawQueryString"` // 2.0

	HTTPMethod                      string              `json:"httpMethod"` // this and the following: 1.0 and load balancer
	MultiValueHeaders               map[string][]string `json:"multiValueHeaders"`
	QueryStringParameters           map[string]string   `json:"queryStringParameters"`
	MultiValueQueryStringParameters map[string][]string `json:"multiValueQueryStringParameters"`

	Source string `json:"source"` // of a schedule
}

func (e *event) method() string {
	if e.HTTPMethod != "" {
		return e.HTTPMethod
	}
	return e.RequestContext.HTTP.Method
}

func (e *event) request(ctx context.Context) (*http.Request, error) {
	body := []byte(e.Body)
	if e.IsBase64Encoded {
		var err error
		if body, err = base64.StdEncoding.DecodeString(e.Body); err != nil {
			return nil, errors.New("the event's body is not in base64")
		}
	}
	r, err := http.NewRequestWithContext(ctx, e.method(), "/", bytes.NewReader(body))
	if err != nil {
		return nil, errors.New("the event's method is malformed")
	}
	r.URL.RawQuery = e.query()
	e.addHeaders(r.Header)
	return r, nil
}

// addHeaders adds every value, also if a name comes in two spellings, so that
// the hook can refuse two signatures.
func (e *event) addHeaders(h http.Header) {
	for name, values := range e.MultiValueHeaders {
		for _, value := range values {
			h.Add(name, value)
		}
	}
	if e.MultiValueHeaders != nil {
		return // API Gateway sends both kinds of headers, and Headers has the same again
	}
	for name, value := range e.Headers {
		h.Add(name, value)
	}
}

func (e *event) query() string {
	if e.HTTPMethod == "" {
		return e.RawQueryString
	}
	values := url.Values(e.MultiValueQueryStringParameters)
	if values == nil {
		values = make(url.Values)
		for name, value := range e.QueryStringParameters {
			values.Set(name, value)
		}
	}
	if e.RequestContext.ELB == nil {
		return values.Encode()
	}
	var parameters []string
	for name, values := range values {
		for _, value := range values {
			parameters = append(parameters, name+"="+value)
		}
	}
	return strings.Join(parameters, "&")
}

// A recorder keeps the hook's answer.
type recorder struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (w *recorder) Header() http.Header { return w.header }

func (w *recorder) WriteHeader(status int) { w.status = status }

func (w *recorder) Write(p []byte) (int, error) { return w.body.Write(p) }

// A response is in the form that all of these services take. The hook's answers
// are text.
type response struct {
	StatusCode        int                 `json:"statusCode"`
	Headers           map[string]string   `json:"headers,omitempty"`
	MultiValueHeaders map[string][]string `json:"multiValueHeaders,omitempty"`
	Body              string              `json:"body"`
	IsBase64Encoded   bool                `json:"isBase64Encoded"`
}

// response returns multi-value headers if the event had them: a load balancer
// accepts only those then.
func (w *recorder) response(e *event) response {
	answer := response{StatusCode: w.status, Body: w.body.String()}
	if e.MultiValueHeaders != nil {
		answer.MultiValueHeaders = w.header
		return answer
	}
	answer.Headers = make(map[string]string)
	for name := range w.header {
		answer.Headers[name] = w.header.Get(name)
	}
	return answer
}
