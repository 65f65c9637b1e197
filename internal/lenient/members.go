package lenient

import (
	"reflect"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Fields are the fields of a struct, by the length of their JSON names. This is
// faster than a map.
type Fields [32][]*field

type field struct {
	name  string
	bit   uint64 // in the sets of Members
	index []int
	inner *Fields // the fields of the struct that it holds or points to
}

// message names a field. A struct with this field may also come as a text,
// which is then stored in the field.
var message = []byte("message")

// FieldsOf returns the fields of T, and of the structs within, that have a JSON
// name. A struct has at most 64 fields, and a name at most 31 bytes. Their types
// are string, int64, bool, time.Time, []string, structs and pointers to structs.
func FieldsOf[T any]() *Fields { return fieldsOf(reflect.TypeFor[T]()) }

func fieldsOf(t reflect.Type) *Fields {
	all := new(Fields)
	for i, f := range reflect.VisibleFields(t) {
		if name := f.Tag.Get("json"); name != "" {
			field := &field{name, 1 << i, f.Index, nil}
			t := f.Type
			if t.Kind() == reflect.Pointer {
				t = t.Elem()
			}
			if t.Kind() == reflect.Struct && t != reflect.TypeFor[time.Time]() {
				field.inner = fieldsOf(t)
			}
			all[len(name)] = append(all[len(name)], field)
		}
	}
	return all
}

func (all *Fields) find(name []byte) *field {
	if len(name) < len(all) {
		for _, f := range all[len(name)] {
			if f.name[0] == name[0] && f.name == string(name) {
				return f
			}
		}
	}
	return nil
}

// Members records which members an object has. It ignores members without a
// field.
type Members struct {
	fields *Fields
	target reflect.Value

	seen  uint64 // the members that the object has
	given uint64 // those that are not null
	odd   uint64 // those whose field does not hold the whole value

	texts    strings.Builder // one allocation for the text of all strings
	unquoted []byte          // reused for the names and texts that have escapes
}

// Read walks once over the object in body. It decodes the members that have a
// field into v, a pointer to the struct of these fields, and skips the others.
// It is the only decoding on the path of a request, and several times faster
// than json/v2. It returns an error if the body is not exactly one JSON object,
// or has a member with a field twice.
func (m *Members) Read(body []byte, fields *Fields, v any) error {
	m.fields, m.target = fields, reflect.ValueOf(v).Elem()
	m.texts.Grow(min(len(body), 512)) // enough for most bodies
	return json.Unmarshal(body, m, Options)
}

// UnmarshalJSONFrom reads the whole body.
func (m *Members) UnmarshalJSONFrom(dec *jsontext.Decoder) error {
	return m.readStruct(dec, m.target, m.fields)
}

// Seen reports whether the object has this member. The member must have a
// field.
func (m *Members) Seen(name string) bool { return m.in(m.seen, name) }

// Given reports whether the object has this member, and it is not null.
func (m *Members) Given(name string) bool { return m.in(m.given, name) }

// Odd reports whether the member's field does not hold the member's whole
// value: the value is of the wrong kind, too large, or not valid UTF-8.
func (m *Members) Odd(name string) bool { return m.in(m.odd, name) }

func (m *Members) in(set uint64, name string) bool {
	return set != 0 && set&m.fields.find([]byte(name)).bit != 0
}

// readStruct reads an object. At the top level, a name that has a field must
// not repeat, because two readers could choose different values.
func (m *Members) readStruct(dec *jsontext.Decoder, v reflect.Value, all *Fields) error {
	top := dec.StackDepth() == 0
	return Object(dec, func(quoted jsontext.Value) error {
		name, _ := unquoteInto(&m.unquoted, quoted)
		f := all.find(name)
		if f == nil {
			_, err := dec.ReadValue() // SkipValue takes longer
			return err
		}
		if top && m.seen&f.bit != 0 {
			return ErrShape
		}
		given, fits, err := m.read(dec, v.FieldByIndex(f.index), f.inner)
		if top {
			m.seen |= f.bit
			if given {
				m.given |= f.bit
			}
			if !fits {
				m.odd |= f.bit
			}
		}
		return err
	})
}

// read reads a value into its field. given means that the value is not null.
// fits means that the field holds the whole value. A value of the wrong kind
// leaves the field zero: Decode finds it again.
func (m *Members) read(dec *jsontext.Decoder, v reflect.Value, inner *Fields) (given, fits bool, err error) {
	switch v.Kind() {
	case reflect.Pointer, reflect.Struct, reflect.Slice:
		return m.readOther(dec, v, inner)
	}
	value, err := dec.ReadValue()
	kind := value.Kind()
	switch v.Kind() {
	case reflect.String:
		var text string
		text, fits = m.text(value)
		v.SetString(text)
	case reflect.Int64:
		var n int64
		n, fits = Int(value)
		v.SetInt(n)
	case reflect.Bool:
		v.SetBool(kind == 't')
		fits = kind == 't' || kind == 'f'
	}
	return kind != 'n', fits || kind == 'n', err
}

func (m *Members) readOther(dec *jsontext.Decoder, v reflect.Value, inner *Fields) (given, fits bool, err error) {
	kind := dec.PeekKind()
	v.SetZero()
	if inner != nil && (kind == '{' || kind == '"' && inner.find(message) != nil) {
		if v.Kind() == reflect.Pointer {
			v.Set(reflect.New(v.Type().Elem()))
			v = v.Elem()
		}
		if kind == '{' {
			return true, true, m.readStruct(dec, v, inner)
		}
		return m.read(dec, v.FieldByIndex(inner.find(message).index), nil)
	}
	switch field := v.Addr().Interface().(type) {
	case *time.Time:
		err := json.UnmarshalDecode(dec, field)
		return kind != 'n', err == nil, nil // a syntax error is reported again later
	case *[]string:
		if kind == '[' {
			*field = []string{}
			return true, true, each(dec, func(value jsontext.Value) error {
				text, _ := m.text(value)
				*field = append(*field, text)
				return nil
			})
		}
	}
	return kind != 'n', kind == 'n', dec.SkipValue()
}

// text returns the text of a JSON string, and "" for any other value.
func (m *Members) text(value jsontext.Value) (text string, fits bool) {
	if value.Kind() != '"' {
		return "", false
	}
	b, err := unquoteInto(&m.unquoted, value)
	start := m.texts.Len()
	m.texts.Grow(len(b)) // doubles the buffer; Write grows it by a quarter only
	m.texts.Write(b)
	return m.texts.String()[start:], err == nil // the text stays valid when the builder grows
}
