package poll_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/cloudinaryhook/cloudinaryhook"
	"github.com/cloudinaryhook/cloudinaryhook/cloudinaryhooktest"
	"github.com/cloudinaryhook/cloudinaryhook/poll"
)

// A receiver creates the images that a channel's messages announce. Here
// NewPollServer takes the place of Cloudinary. In production, do not set
// BaseURL.
func ExampleReceiver() {
	server := cloudinaryhooktest.NewPollServer(nil)
	defer server.Close()
	server.Send("uploads", "", []byte(`{"notification_type":"upload","public_id":"cat","version":1,"request_id":"1"}`))

	ctx, stop := context.WithCancel(context.Background()) // in main: signal.NotifyContext
	receiver := &poll.Receiver{
		Client: &poll.Client{
			CloudName: cloudinaryhooktest.DefaultCloudName,
			APIKey:    cloudinaryhooktest.DefaultAPIKey,
			APISecret: cloudinaryhooktest.DefaultSecret,
			Channel:   "uploads",
			BaseURL:   server.URL,
		},
		// The secret that signs may differ from the Client's.
		Signature: &cloudinaryhook.SignatureVerifier{Secrets: []string{cloudinaryhooktest.DefaultSecret}},
		Processor: &cloudinaryhook.Processor{
			Store: new(cloudinaryhooktest.MemoryStore), // in production: a durable store
			Images: cloudinaryhook.ImageCreatorFunc(func(_ context.Context, img *cloudinaryhook.Image) error {
				fmt.Println("create", img.PublicID)
				stop()
				return nil
			}),
		},
	}
	if err := receiver.Run(ctx); !errors.Is(err, context.Canceled) {
		fmt.Println(err)
	}
	fmt.Println(server.Remaining(), "messages remain")
	// Output:
	// create cat
	// 0 messages remain
}

// Without a Receiver: claim messages, verify each over its exact bytes, store
// their content, and only then acknowledge them.
func ExampleClient() {
	server := cloudinaryhooktest.NewPollServer(nil)
	defer server.Close()
	server.Send("", "batch-1", []byte(`{"notification_type":"delete","request_id":"1"}`))

	client := &poll.Client{
		CloudName: cloudinaryhooktest.DefaultCloudName,
		APIKey:    cloudinaryhooktest.DefaultAPIKey,
		APISecret: cloudinaryhooktest.DefaultSecret,
		BatchID:   "batch-1",
		BaseURL:   server.URL,
	}
	verifier := &cloudinaryhook.SignatureVerifier{Secrets: []string{cloudinaryhooktest.DefaultSecret}}
	messages, err := client.Receive(context.Background())
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, m := range messages {
		if _, err := m.Verify(verifier); err != nil {
			fmt.Println("left:", err)
			continue
		}
		fmt.Printf("%s\n", m.Body)
		if err := client.Acknowledge(context.Background(), m.ReceiptHandle); err != nil {
			fmt.Println("it will come again:", err)
		}
	}
	// Output: {"notification_type":"delete","request_id":"1"}
}
