// Package cloudinaryhooktest helps an app to test its own code around
// cloudinaryhook.
//
// [NewRequest] makes a request for the app's handler. It is signed as Cloudinary
// signs it, and has a token. Options make any part of it wrong. [Bodies] has a
// notification of every type, and [MemoryStore] keeps deliveries in memory.
//
// [TestStore] tests an app's own Store against its contract, as
// testing/fstest.TestFS does for a file system. [TestDeferredStore] does this
// for a queue, and [TestImageCreator] for an ImageCreator. [NewPollServer]
// starts a fake of Cloudinary's polling API.
package cloudinaryhooktest

import (
	"embed"
	"io/fs"
)

//go:embed testdata/*.json
var testdata embed.FS

// Bodies returns notification bodies, one or more of every type, such as
// "rename.json". A file's name begins with the type, except for bodies without a
// type and for unknown.json, whose type is made up. There is no "upload.json":
// "upload-simple.json" is a plain image, "upload-full.json" has most of the optional
// fields, and fs.Glob with "upload-*.json" lists all uploads. The shapes are real,
// and the values are made up. The files also differ in white space, so use the
// bytes as they are.
func Bodies() fs.FS {
	bodies, err := fs.Sub(testdata, "testdata")
	if err != nil {
		panic(err) // the folder is embedded above
	}
	return bodies
}
