package lenient

import (
	"fmt"
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/go-cmp/cmp"
)

// A body has lists and objects, as notifications have.
type body struct {
	List    []string          `json:"list"`
	Objects []object          `json:"objects"`
	Texts   map[string]string `json:"texts"`
	Number  int64             `json:"number"`
}

func TestDecode(t *testing.T) {
	tests := []struct {
		name, json string
		want       body
		mismatched []jsontext.Pointer
	}{
		{"all fits", `{"list":["a"],"number":"7"}`, body{List: []string{"a"}, Number: 7}, nil},
		{"one does not", `{"list":["a",1,"b"],"number":7}`, body{List: []string{"a", "", "b"}, Number: 7}, []jsontext.Pointer{"/list/1"}},
		{"within an object", `{"objects":[{"text":"a"},{"text":"b","number":"x"}]}`,
			body{Objects: []object{{Text: "a"}, {Text: "b"}}}, []jsontext.Pointer{"/objects/1/number"}},
		{"names with a slash", `{"texts":{"a/b":1,"c":"d"},"number":[]}`, body{Texts: map[string]string{"a/b": "", "c": "d"}}, []jsontext.Pointer{"/texts/a~1b", "/number"}},
		{"another kind", `[]`, body{}, []jsontext.Pointer{""}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var got body
			mismatched := Decode([]byte(tt.json), &got, Numbers)
			if diff := cmp.Diff(tt.want, got, cmp.AllowUnexported(object{})); diff != "" {
				t.Errorf("value differs (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tt.mismatched, mismatched); diff != "" {
				t.Errorf("mismatched differs (-want +got):\n%s", diff)
			}
		})
	}
}

// TestManyMismatches: a member with millions of odd values costs no more than one
// with a thousand.
func TestManyMismatches(t *testing.T) {
	for _, n := range []int{maxMismatched, maxMismatched + 1, 100_000} {
		for name, member := range map[string]string{
			"list":    `[` + strings.Repeat(`1,`, n-1) + `1]`,
			"texts":   `{` + strings.Repeat(`"a":[],`, n-1) + `"b":[]}`,
			"objects": `[` + strings.Repeat(`{"number":"x"},`, n-1) + `{"number":"x"}]`,
		} {
			t.Run(fmt.Sprintf("%s/%d", name, n), func(t *testing.T) {
				var got body
				mismatched := Decode([]byte(`{"`+name+`":`+member+`,"number":7}`), &got, Numbers)
				wantPaths, wantZero := n, false
				if n > maxMismatched {
					wantPaths, wantZero = 1, true
				}
				if len(mismatched) != wantPaths || !strings.HasPrefix(string(mismatched[0]), "/"+name) {
					t.Errorf("mismatched got %d paths, want %d", len(mismatched), wantPaths)
				}
				if zero := got.List == nil && got.Objects == nil && got.Texts == nil; zero != wantZero || got.Number != 7 {
					t.Errorf("%s is zero: got %v, want %v; and the number got %d, want 7", name, zero, wantZero, got.Number)
				}
			})
		}
	}
}
