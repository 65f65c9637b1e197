package main

import (
	"context"
	"database/sql"
	"log/slog"
	"net/http"
	"time"

	"github.com/cloudinaryhook/cloudinaryhook"
	"github.com/cloudinaryhook/cloudinaryhook/sqlstore"
)

func newReceiver(ctx context.Context, db *sql.DB, apiSecret string, tokenKey []byte) (http.Handler, error) {
	store, err := sqlstore.New(ctx, db, sqlstore.Postgres)
	if err != nil {
		return nil, err
	}
	if err := store.Migrate(ctx); err != nil {
		return nil, err
	}
	createImage := func(ctx context.Context, img *cloudinaryhook.Image) error { // yours
		return store.Do(ctx, func(ctx context.Context, tx *sql.Tx) error {
			_, err := tx.ExecContext(ctx, `INSERT INTO images (key, album, url) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING`,
				img.Key, img.Claims.AlbumID, img.SecureURL)
			return err
		})
	}
	processor := &cloudinaryhook.Processor{Store: store, Images: cloudinaryhook.ImageCreatorFunc(createImage), Logger: slog.Default()}
	go processor.ResumeEvery(ctx, time.Minute, store.Pending) // tries again after a crash or an error
	return cloudinaryhook.NewHandler(cloudinaryhook.Config{
		Signature: &cloudinaryhook.SignatureVerifier{Secrets: []string{apiSecret}},
		Token:     &cloudinaryhook.TokenVerifier{Keys: [][]byte{tokenKey}, Require: []string{"album_id"}},
		Processor: processor,
		Logger:    slog.Default(),
	})
}
