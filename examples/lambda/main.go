// Lambda is the hook as an AWS Lambda function: behind API Gateway, behind an
// Application Load Balancer, or at a function URL. Its store is Postgres.
//
// # Build
//
//	GOOS=linux GOARCH=arm64 CGO_ENABLED=0 go build -tags lambda.norpc -o bootstrap ./examples/lambda
//	zip lambda.zip bootstrap
//
// # Deploy
//
//	aws lambda create-function --function-name cloudinaryhook \
//		--runtime provided.al2023 --architectures arm64 --handler bootstrap --zip-file fileb://lambda.zip \
//		--timeout 20 --role "$ROLE_ARN" --environment file://environment.json
//
// environment.json sets CLOUDINARY_API_SECRET, CLOUDINARYHOOK_TOKEN_KEY and
// DATABASE_URL. While one of the first two is rotated, the same name with
// _PREVIOUS at its end holds the old value.
//
// Then give the function an address: a function URL (with the authentication
// type NONE, because the hook authenticates), or a route of API Gateway or of a
// load balancer.
//
// Cloudinary waits 20 seconds, so the timeout is 20 seconds. The hook itself
// takes at most 15 seconds, and leaves the function at least 4. With Lambda's
// default of 3 seconds every invocation fails, and the log says why.
//
// Each instance of the function opens up to two connections. Set the function's
// reserved concurrency so that the database has enough.
//
// # The body's bytes
//
// An event is JSON, and JSON text cannot hold bytes that are not UTF-8, such as
// a file name in Latin-1. AWS replaces them, so the signature does not match:
// 401. The body must come as base64:
//
//   - REST API (payload 1.0): set binaryMediaTypes to */*. Nothing is binary by
//     default. (aws apigateway update-rest-api --rest-api-id "$API_ID"
//     --patch-operations 'op=add,path=/binaryMediaTypes/*~1*', and deploy the stage
//     again.)
//   - HTTP API (payload 1.0 or 2.0), function URL, load balancer: there is no
//     setting. A body is text if its Content-Type is text/* or application/json, and
//     some others. Recorded notifications say application/x-www-form-urlencoded,
//     which is not among them.
//
// If a refused body has lost bytes, the log says so.
//
// # The rest
//
// A load balancer keeps the last of repeated headers and parameters. Set the
// target group's lambda.multi_value_headers.enabled, so that the hook sees all
// of them and refuses them. Set a schedule that resumes pending deliveries
// after a failure:
//
//	aws events put-rule --name cloudinaryhook-resume --schedule-expression 'rate(5 minutes)'
//	aws lambda add-permission --function-name cloudinaryhook --statement-id resume \
//		--action lambda:InvokeFunction --principal events.amazonaws.com --source-arn "$RULE_ARN"
//	aws events put-targets --rule cloudinaryhook-resume --targets Id=1,Arn="$FUNCTION_ARN"
//
// docs/routers.md says which logs of AWS hold the token.
package main

import (
	"context"
	"database/sql"
	"errors"
	"log/slog"
	"os"
	"time"

	"github.com/aws/aws-lambda-go/lambda"
	_ "github.com/jackc/pgx/v5/stdlib"

	"github.com/cloudinaryhook/cloudinaryhook"
	"github.com/cloudinaryhook/cloudinaryhook/internal/secrets"
	"github.com/cloudinaryhook/cloudinaryhook/sqlstore"
)

func main() {
	slog.SetDefault(slog.New(slog.NewJSONHandler(os.Stderr, nil)))
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second) // Lambda's limit for the start
	f, err := open(ctx, os.Getenv)
	cancel()
	if err != nil {
		slog.Error("the function does not start", "error", err)
		os.Exit(1)
	}
	lambda.Start(f)
}

// open connects to the database, and creates the tables if they are missing.
func open(ctx context.Context, getenv func(string) string) (*function, error) {
	apiSecrets, err := secrets.Required(getenv, secrets.APISecret)
	if err != nil {
		return nil, err
	}
	keys, err := secrets.Keys(getenv)
	if err != nil {
		return nil, err
	}
	db, err := sql.Open("pgx", getenv("DATABASE_URL"))
	if err != nil {
		return nil, errors.New("DATABASE_URL is malformed") // err may quote its password
	}
	db.SetMaxOpenConns(2) // an instance answers one request at a time; the store keeps a connection for itself
	store, err := sqlstore.New(ctx, db, sqlstore.Postgres)
	if err != nil {
		return nil, err
	}
	if err := store.Migrate(ctx); err != nil {
		return nil, err
	}
	if _, err := db.ExecContext(ctx, `CREATE TABLE IF NOT EXISTS images (key text PRIMARY KEY, album_id text NOT NULL, url text NOT NULL)`); err != nil {
		return nil, err
	}
	f := &function{
		config: cloudinaryhook.Config{
			Signature: &cloudinaryhook.SignatureVerifier{Secrets: apiSecrets},
			Token:     &cloudinaryhook.TokenVerifier{Keys: keys, Require: []string{"album_id"}},
			Processor: &cloudinaryhook.Processor{Store: store, Images: images{db}, Logger: slog.Default()},
			Logger:    slog.Default(),
		},
		pending: store.Pending,
	}
	_, err = cloudinaryhook.NewHandler(f.config) // finds a wrong setting at the start
	return f, err
}

// images is the app's own part: it inserts one row for each image.
type images struct{ db *sql.DB }

func (i images) CreateImage(ctx context.Context, img *cloudinaryhook.Image) error {
	_, err := i.db.ExecContext(ctx, `INSERT INTO images (key, album_id, url) VALUES ($1, $2, $3) ON CONFLICT (key) DO NOTHING`,
		img.Key, img.Claims.AlbumID, img.SecureURL)
	return err
}
