package secrets

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestLookupAll(t *testing.T) {
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte(" exact\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name    string
		env     map[string]string
		want    []Value
		wantErr string
	}{
		{"none", nil, nil, ""},
		{"one", map[string]string{"N": "a,b "}, []Value{{"N", "a,b "}}, ""},
		{"rotation", map[string]string{"N": "new", "N_PREVIOUS": "old"}, []Value{{"N", "new"}, {"N_PREVIOUS", "old"}}, ""},
		{"only the old one", map[string]string{"N_PREVIOUS": "old"}, []Value{{"N_PREVIOUS", "old"}}, ""},
		{"files", map[string]string{"N": "new", "N_PREVIOUS_FILE": file}, []Value{{"N", "new"}, {"N_PREVIOUS_FILE", " exact\n"}}, ""},
		{"both", map[string]string{"N": "private", "N_FILE": file}, nil, "N and N_FILE are both set"},
		{"no file", map[string]string{"N_PREVIOUS_FILE": file + "x"}, nil, "N_PREVIOUS_FILE"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := LookupAll(func(name string) string { return tt.env[name] }, "N")
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("values differ (-want +got):\n%s", diff)
			}
			if tt.wantErr == "" && err != nil || tt.wantErr != "" && (err == nil || !strings.Contains(err.Error(), tt.wantErr)) {
				t.Errorf("error got %v, want %q in it", err, tt.wantErr)
			}
			if err != nil && strings.Contains(err.Error(), "private") {
				t.Errorf("the error holds the secret: %v", err)
			}
		})
	}
}

func TestRequired(t *testing.T) {
	tests := []struct {
		name string
		env  map[string]string
		want []string // nil: an error
	}{
		{"none", nil, nil},
		{"only the old one", map[string]string{"N_PREVIOUS": "old"}, nil},
		{"one", map[string]string{"N": "new"}, []string{"new"}},
		{"rotation", map[string]string{"N": "new", "N_PREVIOUS": "old"}, []string{"new", "old"}},
		{"no file", map[string]string{"N": "new", "N_PREVIOUS_FILE": "/nowhere"}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Required(func(name string) string { return tt.env[name] }, "N")
			if diff := cmp.Diff(tt.want, got); diff != "" || (err == nil) != (tt.want != nil) {
				t.Errorf("error %v, values differ (-want +got):\n%s", err, diff)
			}
		})
	}
}

func TestKeys(t *testing.T) {
	tests := []struct {
		name string
		env  map[string]string
		want [][]byte // nil: an error
	}{
		{"none", map[string]string{APISecret: "secret"}, nil},
		{"one", map[string]string{TokenKey: "a key\n"}, [][]byte{[]byte("a key\n")}},
		{"rotation", map[string]string{TokenKey: "new", TokenKey + PreviousSuffix: "old"}, [][]byte{[]byte("new"), []byte("old")}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Keys(func(name string) string { return tt.env[name] })
			if diff := cmp.Diff(tt.want, got); diff != "" || (err == nil) != (tt.want != nil) {
				t.Errorf("error %v, keys differ (-want +got):\n%s", err, diff)
			}
		})
	}
}
