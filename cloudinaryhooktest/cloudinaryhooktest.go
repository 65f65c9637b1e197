// Package cloudinaryhooktest has what an app needs to test its side of
// cloudinaryhook.
//
// A handler is tested with requests signed as Cloudinary signs them:
//
//	store := new(cloudinaryhooktest.MemoryStore)
//	handler, err := cloudinaryhook.NewHandler(cloudinaryhook.Config{
//		Signature: &cloudinaryhook.SignatureVerifier{Secrets: []string{cloudinaryhooktest.DefaultSecret}},
//		Token:     &cloudinaryhook.TokenVerifier{Keys: [][]byte{[]byte(cloudinaryhooktest.DefaultKey)}},
//		Processor: &cloudinaryhook.Processor{Store: store, Images: images},
//	})
//	…
//	handler.ServeHTTP(w, cloudinaryhooktest.NewRequest(t, "/hook", body))
//
// [Bodies] has a notification of every type to send. [TestStore] and
// [TestImageCreator] test an app's own Store and ImageCreator against their
// contracts, in the manner of testing/fstest.TestFS.
package cloudinaryhooktest

import (
	"embed"
	"io/fs"
)

//go:embed testdata/*.json
var testdata embed.FS

// Bodies returns notification bodies, one or more of every type, as
// "upload-full.json": the file name begins with the type, but for those without
// one, and for unknown.json, whose type is made up. Their shapes are those on the
// wire, their values made up; the white space too differs from file to file, so
// use them as they are.
func Bodies() fs.FS {
	bodies, err := fs.Sub(testdata, "testdata")
	if err != nil {
		panic(err) // the folder is embedded above
	}
	return bodies
}
