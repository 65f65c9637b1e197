package main

import (
	"testing"
	"time"
)

func TestVisible(t *testing.T) {
	tests := []struct{ in, want string }{
		{"summer/pier 42.jpg", "summer/pier 42.jpg"},
		{"gpj.\u202eexe", `gpj.\u{202e}exe`},
		{"\u2066a\u2069\u200f\ufeff", `\u{2066}a\u{2069}\u{200f}\u{feff}`},
		{"a\x00\n\x1b[31m\x7f\u0085", `a\u{0}\u{a}\u{1b}[31m\u{7f}\u{85}`},
		{"a\u2028\u2029\U000e0041\ue000", `a\u{2028}\u{2029}\u{e0041}\u{e000}`},
		{"שלום مرحبا", "שלום مرحبا"},
		{"👩\u200d🚀 क\u094d\u200dष", "👩\u200d🚀 क\u094d\u200dष"}, // joiners are part of the text
		{"not\xff UTF-8", "not\ufffd UTF-8"},
		{`\u{202e}`, `\u{202e}`},
		{"", ""},
	}
	for _, tt := range tests {
		if got := visible(tt.in); got != tt.want {
			t.Errorf("visible(%q) got %q, want %q", tt.in, got, tt.want)
		}
	}
}

func TestCut(t *testing.T) {
	tests := []struct {
		in   string
		size int
		want string
	}{
		{"pier", 4, "pier"},
		{"pier", 3, "pie…"},
		{"é€", 5, "é€"},
		{"é€", 4, "é…"},
		{"é€", 1, "…"},
		{"\x80\x80", 1, "…"}, // no character begins in it
	}
	for _, tt := range tests {
		if got := cut(tt.in, tt.size); got != tt.want {
			t.Errorf("cut(%q, %d) got %q, want %q", tt.in, tt.size, got, tt.want)
		}
	}
}

func TestClock(t *testing.T) {
	now := time.Date(2026, 3, 4, 1, 2, 3, 0, time.UTC)
	tests := []struct {
		t    time.Time
		want string
	}{
		{now, "01:02:03"},
		{now.Add(-2 * time.Hour), "3 Mar 23:02"},
		{now.Add(-2 * time.Hour).In(time.FixedZone("", 3*3600)), "3 Mar 23:02"},
		{now.AddDate(-1, 0, 0), "4 Mar 2025"},
	}
	for _, tt := range tests {
		if got := clock(now, tt.t); got != tt.want {
			t.Errorf("clock of %v got %q, want %q", tt.t, got, tt.want)
		}
	}
}

func TestDuration(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0:                        "0 µs",
		850 * time.Microsecond:   "850 µs",
		1230 * time.Microsecond:  "1.2 ms",
		45678 * time.Microsecond: "45 ms",
		1500 * time.Millisecond:  "1.5 s",
		90 * time.Second:         "1 min",
		47 * time.Hour:           "47 h",
		72 * time.Hour:           "3 days",
	} {
		if got := duration(d); got != want {
			t.Errorf("duration(%v) got %q, want %q", d, got, want)
		}
	}
}

func TestFileSize(t *testing.T) {
	for n, want := range map[int64]string{999: "999 bytes", 318204: "318 KB", 1_400_000: "1.4 MB"} {
		if got := fileSize(n); got != want {
			t.Errorf("fileSize(%d) got %q, want %q", n, got, want)
		}
	}
}
