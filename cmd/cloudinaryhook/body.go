package main

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"

	"github.com/cloudinaryhook/cloudinaryhook"
	"github.com/cloudinaryhook/cloudinaryhook/cloudinaryhooktest"
	"github.com/cloudinaryhook/cloudinaryhook/internal/flagset"
	"github.com/cloudinaryhook/cloudinaryhook/internal/sender"
)

// A source gives the bodies to send.
type source struct {
	next   func() ([]byte, error)
	claims json.RawMessage // of a stored Delivery; else nil
}

// typical names the samples of the types whose sample has another name.
var typical = map[string]string{"upload": "upload-simple", "eager": "eager-done"}

// openSource opens the sample or the file that an argument names. Sample bodies
// get fresh IDs. The user's own body stays as it is, or gets a new request_id
// if fresh is set.
func openSource(name string, same, fresh bool, stdin io.Reader) (source, error) {
	sample := name
	if other, ok := typical[name]; ok {
		sample = other
	}
	body, err := sender.FreshBody(sample, "")
	switch {
	case err == nil && same:
		return source{next: func() ([]byte, error) { return body, nil }}, nil
	case err == nil:
		return source{next: func() ([]byte, error) { return sender.FreshBody(sample, "") }}, nil
	case !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrInvalid):
		return source{}, err
	}
	body, err = readInput(name, stdin)
	if errors.Is(err, fs.ErrNotExist) {
		return source{}, usagef("%s is neither a type, nor a sample body, nor a file", flagset.Quote(name))
	}
	if err != nil {
		return source{}, err
	}
	return fileSource(body, same, fresh)
}

// fileSource sends the content of a file. If the file is a Delivery as
// Delivery.MarshalJSON writes it, or a request that listen has recorded, it
// sends the body in it.
func fileSource(body []byte, same, fresh bool) (source, error) {
	var s source
	var d cloudinaryhook.Delivery
	if d.UnmarshalJSON(body) == nil {
		body = d.Body
		if err := d.Claims.Decode(&s.claims); err != nil {
			return s, err
		}
	} else if r, err := readRecording(body); err == nil {
		body = r.body
	}
	s.next = func() ([]byte, error) { return body, nil }
	if !fresh {
		return s, nil
	}
	renewed, err := renew(body)
	if same {
		body = renewed
	} else {
		s.next = func() ([]byte, error) { return renew(body) }
	}
	return s, err
}

// renew gives a body a new request_id, and leaves every other byte as it is.
func renew(body []byte) ([]byte, error) {
	before, after, err := aroundRequestID(body)
	if err != nil {
		return nil, errors.New("-fresh: the body is not a JSON object")
	}
	return fmt.Appendf(nil, "%s\"%s\"%s", before, strings.ToLower(rand.Text()), after), nil
}

// aroundRequestID returns the bytes before and after the value of the member
// request_id. If there is no such member, it adds one.
func aroundRequestID(body []byte) (before, after []byte, err error) {
	decoder := json.NewDecoder(bytes.NewReader(body))
	if bracket, err := decoder.Token(); err != nil || bracket != json.Delim('{') {
		return nil, nil, errors.New("no object")
	}
	begin := decoder.InputOffset()
	comma := ""
	for decoder.More() {
		comma = ","
		name, err := decoder.Token()
		if err != nil {
			return nil, nil, err
		}
		var value json.RawMessage
		if err := decoder.Decode(&value); err != nil {
			return nil, nil, err
		}
		if end := decoder.InputOffset(); name == "request_id" {
			return body[:end-int64(len(value))], body[end:], nil
		}
	}
	if _, err := decoder.Token(); err != nil {
		return nil, nil, err
	}
	return fmt.Appendf(nil, `%s"request_id":`, body[:begin]), append([]byte(comma), body[begin:]...), nil
}

// helpOnSamples lists what can be sent.
func helpOnSamples() []string {
	types, others := samples()
	for i, name := range types {
		if sample, ok := typical[name]; ok {
			types[i] = fmt.Sprintf("%s (the sample %s)", name, sample)
		}
	}
	return []string{"Types: " + strings.Join(types, ", ") + ".", "Other samples: " + strings.Join(others, ", ") + "."}
}

// samples lists the types with sample bodies, and the names of the other
// samples.
func samples() (types, others []string) {
	files, _ := fs.Glob(cloudinaryhooktest.Bodies(), "*.json") // the pattern is well formed
	for _, file := range files {
		name := strings.TrimSuffix(file, ".json")
		body, err := fs.ReadFile(cloudinaryhooktest.Bodies(), file)
		if err != nil {
			continue // it was listed above
		}
		if payload, err := cloudinaryhook.ParsePayload(body); err == nil && string(payload.Common().Type) == name {
			types = append(types, name)
		} else {
			others = append(others, name)
		}
	}
	for name := range typical {
		types = append(types, name)
	}
	slices.Sort(types)
	return types, others
}
