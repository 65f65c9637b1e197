package main

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestDrawHour(t *testing.T) {
	hour := make([]minute, drawnMinutes)
	for i := range hour {
		hour[i].start = time.Date(2026, 3, 4, 9, i, 0, 0, time.UTC).Unix() / 60
	}
	hour[10].Accepted = 22
	hour[20].Accepted, hour[20].Pending = 11, 22
	hour[30].Refused = 5
	want := hourDrawing{Line: 44, Accepted: 33, Refused: 5, Pending: 22, Busiest: 22, Bars: []bar{
		{Label: "09:10 UTC: 22 accepted, 0 refused or failed, at most 0 pending", X: 50, Accepted: 44, AcceptedY: 0, Refused: 1, PendingY: 43, HasAccepted: true},
		{Label: "09:20 UTC: 11 accepted, 0 refused or failed, at most 22 pending", X: 100, Accepted: 22, AcceptedY: 22, Refused: 1, PendingY: 0, HasAccepted: true, Waits: true},
		{Label: "09:30 UTC: 0 accepted, 5 refused or failed, at most 0 pending", X: 150, Accepted: 1, AcceptedY: 43, Refused: 10, PendingY: 43, HasRefused: true},
	}}
	if diff := cmp.Diff(want, drawHour(hour)); diff != "" {
		t.Errorf("differs (-want +got):\n%s", diff)
	}
	hour[40].Refused = 1_000_000 // with a flood, the drawing stays in its frame and the other bars stay visible
	for _, b := range drawHour(hour).Bars {
		if b.AcceptedY < 0 || b.PendingY < 0 || b.Refused > 20 || b.Accepted < 1 {
			t.Errorf("beside a flood got %+v, want at most 44 above the line and 20 below it", b)
		}
	}
}

// TestPlaceholder: the same key always has the same drawing, different keys
// have different ones, and the near hill is always behind the text.
func TestPlaceholder(t *testing.T) {
	seen := make(map[placeholder]bool)
	for i := range 1000 {
		p := drawPlaceholder(fmt.Sprint("key ", i))
		if again := drawPlaceholder(fmt.Sprint("key ", i)); p != again {
			t.Errorf("key %d got %+v and then %+v", i, p, again)
		}
		seen[p] = true
		var left, a, b, right int
		if _, err := fmt.Sscanf(p.Near, "M0 %dC40 %d 85 %d 120 %dV90H0Z", &left, &a, &b, &right); err != nil || max(left, a, b, right) > 72 {
			t.Errorf("the near hill is %q, want its top above 72", p.Near)
		}
	}
	if len(seen) < 990 {
		t.Errorf("1,000 keys have %d drawings", len(seen))
	}
}
