package service

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cloudinaryhook/cloudinaryhook"
)

// logLines returns a short text for each line of a JSON log: its level, its
// message and the attributes with, cause and left_out, if it has them.
func logLines(t *testing.T, log *bytes.Buffer) (all []string) {
	t.Helper()
	for line := range strings.Lines(log.String()) {
		var fields struct {
			Level, Msg, Cause, With string
			LeftOut                 int `json:"left_out"`
		}
		if err := json.Unmarshal([]byte(line), &fields); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		text := fmt.Sprint(fields.Level, " ", fields.Msg)
		if fields.With != "" {
			text += " with " + fields.With
		}
		if fields.LeftOut > 0 {
			text += fmt.Sprintf(": %s, %d", fields.Cause, fields.LeftOut)
		}
		all = append(all, text)
	}
	return all
}

func cause(err error) string {
	if errors.Is(err, cloudinaryhook.ErrSave) {
		return "saving failed"
	}
	return "other"
}

// TestFloodsAreSummedUp: the log has a few lines of one kind, and then the
// number of the others. Lines of another kind, and lines that are not failures,
// are still written.
func TestFloodsAreSummedUp(t *testing.T) {
	var log bytes.Buffer
	handler := (&Log{JSON: true}).handler(&log, cause)
	logger := slog.New(handler)
	with := logger.With("with", "x")
	for i := range 1000 {
		logger.Error("failed", "error", fmt.Errorf("%w: %d", cloudinaryhook.ErrSave, i))
	}
	with.Error("failed", "error", cloudinaryhook.ErrSave) // the same kind
	with.Error("failed", "error", errors.New("something else"))
	for range 7 {
		logger.Info("accepted")
		logger.Debug("not written")
	}
	handler.sumUp(t.Context())
	handler.sumUp(t.Context())
	logger.Error("failed", "error", cloudinaryhook.ErrSave)
	want := []string{"ERROR failed", "ERROR failed", "ERROR failed", "ERROR failed", "ERROR failed", "ERROR failed with x",
		"INFO accepted", "INFO accepted", "INFO accepted", "INFO accepted", "INFO accepted", "INFO accepted", "INFO accepted",
		"ERROR failed, and more of the same: saving failed, 996", "ERROR failed"}
	if diff := cmp.Diff(want, logLines(t, &log)); diff != "" {
		t.Errorf("lines differ (-want +got):\n%s", diff)
	}
}

func TestLogLevelAndFormat(t *testing.T) {
	var log bytes.Buffer
	logger, stop := (&Log{Level: slog.LevelWarn}).Open(t.Context(), &log, cause)
	defer stop()
	logger.Info("one")
	logger.WithGroup("g").Warn("two", "a", 1)
	if got := log.String(); strings.Contains(got, "one") || !strings.Contains(got, `level=WARN msg=two g.a=1`) {
		t.Errorf("got %q, want only the warning, as text", got)
	}
}
