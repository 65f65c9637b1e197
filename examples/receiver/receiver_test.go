package main

import (
	"database/sql"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/cloudinaryhook/cloudinaryhook/cloudinaryhooktest"
	"github.com/cloudinaryhook/cloudinaryhook/internal/postgrestest"
)

// TestREADME: the README shows exactly this program.
func TestREADME(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile("receiver.go")
	if err != nil {
		t.Fatal(err)
	}
	_, program, found := strings.Cut(string(source), "\nfunc ")
	if !found || !strings.Contains(string(readme), "```go\nfunc "+program+"```\n") {
		t.Error("README.md does not show the function newReceiver as receiver.go has it")
	}
}

func TestReceiver(t *testing.T) {
	db, err := sql.Open("pgx", postgrestest.Start(t).Database(t))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.ExecContext(t.Context(), createTable); err != nil {
		t.Fatal(err)
	}
	receiver, err := newReceiver(t.Context(), db, cloudinaryhooktest.DefaultSecret, []byte(cloudinaryhooktest.DefaultKey))
	if err != nil {
		t.Fatal(err)
	}
	body, err := fs.ReadFile(cloudinaryhooktest.Bodies(), "upload-full.json")
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second is a duplicate
		w := httptest.NewRecorder()
		receiver.ServeHTTP(w, cloudinaryhooktest.NewRequest(t, "/api/v1/cloudinary", body))
		if w.Code != http.StatusCreated {
			t.Errorf("got status %d, want 201", w.Code)
		}
	}
	var images int
	if err := db.QueryRowContext(t.Context(), "SELECT count(*) FROM images WHERE album = $1", cloudinaryhooktest.DefaultClaims().AlbumID).Scan(&images); err != nil {
		t.Fatal(err)
	}
	if images != 1 {
		t.Errorf("got %d images, want 1", images)
	}
}
