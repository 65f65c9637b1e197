// Moduleproxy writes the modules of this repository, at one commit, into a
// folder that the go command can use as a module proxy. With it you can test
// what users would get if that commit were released now.
//
//	go run ./examples/internal/moduleproxy -version v0.1.0 -to /tmp/proxy
//	GOPROXY=file:///tmp/proxy,$(go env GOPROXY) GONOSUMDB=github.com/cloudinaryhook go install …
package main

import (
	"flag"
	"fmt"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/mod/module"
	"golang.org/x/mod/zip"
)

const path = "github.com/cloudinaryhook/cloudinaryhook"

func main() {
	log.SetFlags(0)
	log.SetPrefix("moduleproxy: ")
	version := flag.String("version", "v0.1.0", "the `version` of each module")
	to := flag.String("to", "", "the `folder` to write to")
	revision := flag.String("revision", "HEAD", "the `commit` to take")
	flag.Parse()
	if *to == "" || flag.NArg() > 0 {
		flag.Usage()
		os.Exit(2)
	}
	// The folder that holds .git. This also works in another work tree of the
	// repository.
	dotGit, err := git("rev-parse", "--path-format=absolute", "--git-common-dir")
	if err != nil {
		log.Fatal(err)
	}
	commit, err := git("rev-parse", *revision)
	if err != nil {
		log.Fatal(err)
	}
	root := filepath.Dir(dotGit)
	for _, folder := range []string{"", "sqlstore", "examples"} {
		m := module.Version{Path: strings.TrimSuffix(path+"/"+folder, "/"), Version: *version}
		if err := write(*to, m, root, commit, folder); err != nil {
			log.Fatalf("%s: %v", m, err)
		}
	}
}

// write adds one version of a module, in the layout of `go help goproxy`.
func write(to string, m module.Version, root, revision, folder string) error {
	at := filepath.Join(to, filepath.FromSlash(m.Path), "@v")
	if err := os.MkdirAll(at, 0o750); err != nil {
		return err
	}
	goMod, err := git("-C", root, "show", revision+":"+filepath.ToSlash(filepath.Join(folder, "go.mod")))
	if err != nil {
		return err
	}
	when, err := git("-C", root, "show", "-s", "--format=%cI", revision)
	if err != nil {
		return err
	}
	info := fmt.Sprintf(`{"Version":%q,"Time":%q}`, m.Version, when)
	for name, text := range map[string]string{"list": m.Version + "\n", m.Version + ".info": info, m.Version + ".mod": goMod + "\n"} {
		if err := os.WriteFile(filepath.Join(at, name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	f, err := os.Create(filepath.Join(at, m.Version+".zip")) //nolint:gosec // the folder is the caller's own
	if err != nil {
		return err
	}
	defer f.Close()
	if err := zip.CreateFromVCS(f, m, root, revision, folder); err != nil {
		return err
	}
	return f.Close()
}

func git(args ...string) (string, error) {
	out, err := exec.Command("git", args...).Output() //nolint:gosec // arguments of this program's own
	if err != nil {
		return "", fmt.Errorf("git %s: %w", args[0], err)
	}
	return strings.TrimSpace(string(out)), nil
}
