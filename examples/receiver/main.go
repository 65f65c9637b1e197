// Receiver is the program in the README, with a main function.
//
//	export DATABASE_URL=postgres://… CLOUDINARY_API_SECRET=… CLOUDINARYHOOK_TOKEN_KEY=$(openssl rand -base64 32)
//	go run ./examples/receiver
package main

import (
	"context"
	"database/sql"
	"log"
	"net/http"
	"os"

	_ "github.com/jackc/pgx/v5/stdlib"
)

const createTable = "CREATE TABLE IF NOT EXISTS images (key text PRIMARY KEY, album text, url text)"

func main() {
	ctx := context.Background()
	db, err := sql.Open("pgx", os.Getenv("DATABASE_URL"))
	if err != nil {
		log.Fatal("DATABASE_URL is not the address of a database") // the error may quote a password
	}
	if _, err := db.ExecContext(ctx, createTable); err != nil {
		log.Fatal(err)
	}
	receiver, err := newReceiver(ctx, db, os.Getenv("CLOUDINARY_API_SECRET"), []byte(os.Getenv("CLOUDINARYHOOK_TOKEN_KEY")))
	if err != nil {
		log.Fatal(err)
	}
	http.Handle("POST /api/v1/cloudinary", receiver)
	log.Fatal(http.ListenAndServe("127.0.0.1:8080", nil)) //nolint:gosec // an example; set ReadHeaderTimeout and IdleTimeout
}
