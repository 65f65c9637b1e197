package database

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cloudinaryhook/cloudinaryhook"
	"github.com/cloudinaryhook/cloudinaryhook/sqlstore"
)

// TestPositions: the pages of a list together are the whole list, although new
// rows come in between and many rows share a time.
func TestPositions(t *testing.T) {
	onEach(t, func(t *testing.T, db *DB) {
		processor := &cloudinaryhook.Processor{Store: db, Images: db}
		accept := func(name string, second int) {
			t.Helper()
			d := newDelivery(t, fmt.Sprintf(`{"notification_type":"upload","public_id":%q,"version":1}`, name))
			d.ReceivedAt = d.ReceivedAt.Truncate(1e9).AddDate(0, 0, second)
			if _, err := processor.Accept(t.Context(), d); err != nil {
				t.Fatal(err)
			}
		}
		for i := range 10 {
			accept(fmt.Sprint("p", i), i/4)
		}
		if _, err := db.db.ExecContext(t.Context(), "UPDATE images SET created_at = 7"); err != nil {
			t.Fatal(err)
		}
		wantRows, err1 := db.Deliveries(t.Context(), Filter{}, Position{}, 100)
		wantImages, err2 := db.Images(t.Context(), "", Position{}, 100)
		rows, err3 := all(t, func(after Position) ([]Delivery, error) {
			accept(fmt.Sprint("newer ", after), 9)
			return db.Deliveries(t.Context(), Filter{}, after, 3)
		})
		images, err4 := all(t, func(after Position) ([]Image, error) { return db.Images(t.Context(), "", after, 3) })
		if err := errors.Join(err1, err2, err3, err4); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(wantRows, rows[1:]); diff != "" { // without the row that came before the first page
			t.Errorf("deliveries differ (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff(wantImages, images[len(images)-len(wantImages):]); diff != "" {
			t.Errorf("images differ (-want +got):\n%s", diff)
		}
	})
}

// all reads all pages of a list.
func all[T interface{ Position() Position }](t *testing.T, page func(after Position) ([]T, error)) (rows []T, err error) {
	t.Helper()
	var after Position
	for {
		next, err := page(after)
		if err != nil || len(next) == 0 {
			return rows, err
		}
		rows = append(rows, next...)
		text := rows[len(rows)-1].Position().String()
		if after, err = ParsePosition(text); err != nil {
			t.Fatalf("ParsePosition(%q) got %v", text, err)
		}
	}
}

func TestParsePosition(t *testing.T) {
	for text, want := range map[string]Position{"": {}, "7.a": {7, "a"}, "7.": {7, ""}, "7.a.b": {7, "a.b"}} {
		if got, err := ParsePosition(text); got != want || err != nil {
			t.Errorf("ParsePosition(%q) got %v and %v, want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"7", ".a", "x.a", "-1.a", "0.a", "99999999999999999999.a"} {
		if got, err := ParsePosition(text); err == nil {
			t.Errorf("ParsePosition(%q) got %v, want an error", text, got)
		}
	}
}

// TestNotInMemory: Open refuses a database in memory, and leaves no file of
// that name.
func TestNotInMemory(t *testing.T) {
	t.Chdir(t.TempDir())
	for _, name := range []string{":memory:", ""} {
		if db, err := Open(t.Context(), name); !errors.Is(err, sqlstore.ErrNotDurable) {
			t.Errorf("Open(%q) got %v and %v, want ErrNotDurable", name, db, err)
		}
	}
	if left, err := os.ReadDir("."); err != nil || len(left) > 0 {
		t.Errorf("it left %v and %v, want nothing", left, err)
	}
}

// TestLinkToNoFile: if the name is a link to a missing file, the new file is
// private too.
func TestLinkToNoFile(t *testing.T) {
	folder := t.TempDir()
	link, path := filepath.Join(folder, "link.db"), filepath.Join(folder, "gallery.db")
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	saved(t, open(t, link), `{}`)
	for _, name := range []string{path, path + "-wal", path + "-shm"} {
		if info, err := os.Stat(name); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s got %v and %v, want mode 0600", name, info, err)
		}
	}
}
