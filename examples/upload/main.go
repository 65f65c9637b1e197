// Upload uploads a file with Cloudinary's official SDK, and tells Cloudinary
// where to send the notification and who it is for. docs/upload.md has the
// steps from here to the image.
//
//	export CLOUDINARY_URL=cloudinary://… CLOUDINARYHOOK_TOKEN_KEY=…
//	go run ./examples/upload -url https://app.example/api/v1/cloudinary -album 7 photo.jpg
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"time"

	"github.com/cloudinary/cloudinary-go/v2"
	"github.com/cloudinary/cloudinary-go/v2/api/uploader"
	"github.com/golang-jwt/jwt/v5"

	"github.com/cloudinaryhook/cloudinaryhook"
)

const keyVariable = "CLOUDINARYHOOK_TOKEN_KEY"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "upload:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("upload", flag.ContinueOnError)
	endpoint := flags.String("url", "", "the `URL` of the app's hook, as Cloudinary can reach it")
	organization := flags.String("organization", "", "the organization that the image is for")
	album := flags.String("album", "", "the album that the image is for")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() != 1 || *endpoint == "" || *album == "" {
		return errors.New("give -url, -album and a file")
	}
	cld, err := cloudinary.New() // from CLOUDINARY_URL
	if err != nil {
		return err
	}
	claims := cloudinaryhook.Claims{OrganizationID: *organization, AlbumID: *album}
	publicID, err := upload(ctx, cld, flags.Arg(0), *endpoint, []byte(os.Getenv(keyVariable)), claims)
	if err != nil {
		return err
	}
	fmt.Println(publicID, "is uploaded; its notification is on the way")
	return nil
}

// upload uploads a file, and asks Cloudinary to notify the endpoint. It returns
// the asset's public ID. The app creates the image when the notification comes,
// because only then does Cloudinary have the file for good.
func upload(ctx context.Context, cld *cloudinary.Cloudinary, file, endpoint string, key []byte, claims cloudinaryhook.Claims) (string, error) {
	// Long enough for Cloudinary's work and for its retries, which take about 18
	// minutes.
	claims.ExpiresAt = jwt.NewNumericDate(time.Now().Add(2 * time.Hour))
	token, err := cloudinaryhook.SignToken(key, &claims)
	if err != nil {
		return "", err
	}
	url, err := cloudinaryhook.NotificationURL(endpoint, token)
	if err != nil {
		return "", err
	}
	result, err := cld.Upload.Upload(ctx, file, uploader.UploadParams{NotificationURL: url})
	switch {
	case err != nil:
		return "", err
	case result.Error.Message != "": // the SDK does not return it as an error
		return "", errors.New(result.Error.Message)
	}
	return result.PublicID, nil
}
