package main

import (
	"fmt"
	"hash/fnv"
	"time"
)

// An hourDrawing is the last hour as an SVG of 300 by 66 units, with five units
// for a minute. Bars above the line are accepted notifications, bars below it
// are refused and failed ones. So people who cannot tell colours apart can read
// it.
type hourDrawing struct {
	Bars                       []bar
	Line                       float64 // the y of the line
	Accepted, Refused, Pending int64   // sums; for pending the maximum
	Busiest                    int64   // the largest number accepted or pending in one minute
}

type bar struct {
	Label                          string
	X                              float64
	Accepted, AcceptedY            float64 // heights, and tops if they are not at the line
	Refused, PendingY              float64
	HasAccepted, HasRefused, Waits bool
}

func drawHour(hour []minute) hourDrawing {
	const up, down, step = 44.0, 20.0, 5.0
	d := hourDrawing{Line: up}
	deepest := int64(1)
	for _, m := range hour {
		d.Accepted, d.Refused, d.Pending = d.Accepted+m.Accepted, d.Refused+m.Refused, max(d.Pending, m.Pending)
		d.Busiest, deepest = max(d.Busiest, m.Accepted, m.Pending), max(deepest, m.Refused)
	}
	scale := min(up/float64(max(d.Busiest, 1)), down/float64(deepest))
	height := func(n int64) float64 { return max(1, float64(n)*scale) } // a single one is visible even beside very many
	for i, m := range hour {
		if m.Accepted+m.Refused+m.Pending == 0 {
			continue
		}
		d.Bars = append(d.Bars, bar{
			Label: fmt.Sprintf("%s UTC: %d accepted, %d refused or failed, at most %d pending",
				time.Unix(m.start*60, 0).UTC().Format("15:04"), m.Accepted, m.Refused, m.Pending),
			X: float64(i) * step, Accepted: height(m.Accepted), AcceptedY: up - height(m.Accepted),
			Refused: height(m.Refused), PendingY: up - height(m.Pending),
			HasAccepted: m.Accepted > 0, HasRefused: m.Refused > 0, Waits: m.Pending > 0,
		})
	}
	return d
}

// A placeholder is a drawing for an image that cannot be loaded: two hills and
// a sun, in an SVG of 120 by 90 units. The same key always has the same
// drawing.
type placeholder struct {
	Palette, SunX, SunY, SunR int
	Far, Near                 string // paths
}

func drawPlaceholder(key string) placeholder {
	hash := fnv.New64a()
	_, _ = hash.Write([]byte(key)) // it never fails
	bits := hash.Sum64()
	upTo := func(n uint64) int { // takes a number from 0 to n-1 out of bits
		v := bits % n
		bits /= n
		return int(v) //nolint:gosec // less than n
	}
	p := placeholder{Palette: upTo(6), SunX: 20 + upTo(80), SunY: 14 + upTo(18), SunR: 7 + upTo(6)}
	p.Far = fmt.Sprintf("M0 %dC35 %d 70 %d 120 %dV90H0Z", 42+upTo(14), 26+upTo(22), 54+upTo(10), 34+upTo(14))
	p.Near = fmt.Sprintf("M0 %dC40 %d 85 %d 120 %dV90H0Z", 58+upTo(9), 66+upTo(6), 46+upTo(14), 58+upTo(9)) // the text stands on it
	return p
}
