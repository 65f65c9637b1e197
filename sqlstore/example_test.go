package sqlstore_test

import (
	"context"
	"database/sql"
	"log"
	"net/http"
	"os"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/cloudinaryhook/cloudinaryhook"
	"github.com/cloudinaryhook/cloudinaryhook/sqlstore"
)

// A complete receiver. The app writes only the function that creates an image.
// Here that function inserts a row, in the same commit as the deliveries.
func Example_sqlstore() {
	ctx := context.Background()
	db, err := sql.Open("pgx", os.Getenv("DATABASE_URL"))
	check(err)
	db.SetMaxOpenConns(8) // one of them is the store's
	store, err := sqlstore.New(ctx, db, sqlstore.Postgres)
	check(err)
	defer store.Close()
	check(store.Migrate(ctx))

	createImage := func(ctx context.Context, img *cloudinaryhook.Image) error { // yours
		return store.Do(ctx, func(ctx context.Context, tx *sql.Tx) error {
			_, err := tx.ExecContext(ctx, "INSERT INTO images (key, album_id, url) VALUES ($1, $2, $3) ON CONFLICT (key) DO NOTHING",
				img.Key, img.Claims.AlbumID, img.SecureURL)
			return err
		})
	}
	processor := &cloudinaryhook.Processor{Store: store, Images: cloudinaryhook.ImageCreatorFunc(createImage)}
	hook, err := cloudinaryhook.NewHandler(cloudinaryhook.Config{
		Signature: &cloudinaryhook.SignatureVerifier{Secrets: []string{os.Getenv("CLOUDINARY_API_SECRET")}},
		Token:     &cloudinaryhook.TokenVerifier{Keys: [][]byte{[]byte(os.Getenv("CLOUDINARYHOOK_TOKEN_KEY"))}},
		Processor: processor,
	})
	check(err)
	go processor.ResumeEvery(ctx, time.Minute, store.Pending) // tries pending deliveries again after a crash or an error
	go func() { check(http.ListenAndServe(":8080", hook)) }()
	for range time.Tick(time.Hour) {
		if _, err := store.Prune(ctx, time.Now().AddDate(0, 0, -30)); err != nil {
			log.Print(err)
		}
	}
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

// An app that has a pgxpool gives the store a *sql.DB on top of it. The store
// keeps one of the pool's connections, so MaxConns must be at least two.
func ExampleNew_pgxpool() {
	ctx := context.Background()
	pool, err := pgxpool.New(ctx, os.Getenv("DATABASE_URL"))
	check(err)
	defer pool.Close()
	store, err := sqlstore.New(ctx, stdlib.OpenDBFromPool(pool), sqlstore.Postgres)
	check(err)
	defer store.Close()
}
