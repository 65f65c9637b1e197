package lenient

import (
	"bytes"
	"encoding/json"
	"regexp"
	"strconv"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// An object has a field of each kind that Members can read.
type object struct {
	Text   string    `json:"text"`
	Number int64     `json:"number"`
	Flag   bool      `json:"flag"`
	At     time.Time `json:"at"`
	List   []string  `json:"list"`
	Error  *failure  `json:"error"`
	embedded
}

type embedded struct {
	Public string `json:"public_id"`
}

type failure struct {
	Message string    `json:"message"`
	Status  int64     `json:"status"`
	At      time.Time `json:"at"`
	By      struct {
		ID string `json:"id"`
	} `json:"by"`
}

var (
	objectFields = FieldsOf[object]()
	objectNames  = []string{"text", "number", "flag", "at", "list", "error", "public_id"}
)

// FuzzMembers compares Read with encoding/json: whether the object is well
// formed, which members it has, and the value of each field.
func FuzzMembers(f *testing.F) {
	for _, body := range []string{
		`{"text":null,"number":"12","flag":1,"list":["a",1,null,"b"],"error":[]}`,
		`{"text":"a\n\u00e9\ud83d\ude00","number":-0,"flag":true,"at":"2024-06-25T10:21:27+00:00","list":[]}`,
		`{"error":{"message":1,"status":"404","at":"2024-06-25T10:21:27Z","by":{"id":7}}}`, `{"error":"text"}`, `{"error":1}`,
		`{"error":{"message":"m","message":"n","by":{"id":"7"},"by":1}}`,
		`{"number":1.0}`, `{"number":9223372036854775808}`, `{"number":"+1"}`, `{"flag":"true"}`, `{"at":1}`,
		`{"at":"0000-01-01T0:00:00Z"}`, `{"at":"2024-06-25T10:21:27,5Z"}`, `{"at":"2024-06-25T10:21:27+24:00"}`,
		`{"at":"2024-06-25T10:21:27-23:59"}`, `{"at":"2024-06-25T10:21:27+00:60"}`,
		`{"public\u005fid":"\ud800","a":1,"\u0061":2}`, `{"text":"a","text":"b"}`, `{"public_id":1,"public\u005fid":"p"}`,
		"", " {} \n", "{}x", "[]", "null", "{\"a\xff\":1,\"a\xfe\":1}",
	} {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		var got object
		var members Members
		err := members.Read(body, objectFields, &got)
		independent, ok := readIndependently(body)
		if (err == nil) != ok && utf8.Valid(body) { // readers may replace invalid bytes one by one or together
			t.Fatalf("Read(%q) got %v, want accepted: %v", body, err, ok)
		}
		if err != nil || !utf8.Valid(body) {
			return
		}
		if diff := cmp.Diff(independent.object(), got, cmpopts.EquateEmpty(), cmp.AllowUnexported(object{})); diff != "" {
			t.Errorf("fields of %q differ (-want +got):\n%s", body, diff)
		}
		for _, name := range objectNames {
			if got, want := members.Seen(name), independent[name] != nil; got != want {
				t.Errorf("%q: has %s got %v, want %v", body, name, got, want)
			}
			if got, want := members.Given(name), independent.has(name); got != want {
				t.Errorf("%q: gives %s got %v, want %v", body, name, got, want)
			}
		}
	})
}

// jsonMembers holds an object as encoding/json reads it.
type jsonMembers map[string]json.RawMessage

func readIndependently(body []byte) (jsonMembers, bool) {
	var members jsonMembers
	if json.Unmarshal(body, &members) != nil || members == nil {
		return nil, false
	}
	dec := json.NewDecoder(bytes.NewReader(body))
	_, _ = dec.Token()
	seen := make(map[json.Token]bool)
	for dec.More() {
		var value json.RawMessage
		name, err := dec.Token()
		if err != nil || dec.Decode(&value) != nil {
			return nil, false
		}
		for _, known := range objectNames {
			if name == known && seen[name] {
				return nil, false
			}
		}
		seen[name] = true
	}
	return members, true
}

func (m jsonMembers) has(name string) bool { return m[name] != nil && string(m[name]) != "null" }

func (m jsonMembers) text(name string) (s string) {
	if json.Unmarshal(m[name], &s) != nil {
		return ""
	}
	return s
}

func (m jsonMembers) integer(name string) int64 {
	text := string(m[name])
	if json.Unmarshal(m[name], new(string)) == nil {
		text = m.text(name)
	}
	if n, err := strconv.ParseInt(text, 10, 64); err == nil && text[0] != '+' {
		return n
	}
	return 0
}

var rfc3339 = regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]([01]\d|2[0-3]):[0-5]\d)$`)

func (m jsonMembers) time(name string) (at time.Time) {
	if text := m.text(name); !rfc3339.MatchString(text) || at.UnmarshalText([]byte(text)) != nil {
		return time.Time{}
	}
	return at
}

func (m jsonMembers) within(name string) (members jsonMembers) {
	if json.Unmarshal(m[name], &members) != nil {
		return nil
	}
	return members
}

func (m jsonMembers) object() object {
	o := object{
		Text: m.text("text"), Number: m.integer("number"), Flag: string(m["flag"]) == "true",
		At: m.time("at"), embedded: embedded{Public: m.text("public_id")},
	}
	var list []json.RawMessage
	if json.Unmarshal(m["list"], &list) == nil {
		for _, element := range list {
			o.List = append(o.List, jsonMembers{"": element}.text(""))
		}
	}
	if e := m.within("error"); e != nil || m.text("error") != "" || string(m["error"]) == `""` {
		o.Error = &failure{Message: m.text("error") + e.text("message"), Status: e.integer("status"), At: e.time("at")}
		o.Error.By.ID = e.within("by").text("id")
	}
	return o
}
