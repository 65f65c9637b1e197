package hidetoken_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"

	"github.com/cloudinaryhook/cloudinaryhook/hidetoken"
)

func Example() {
	hook := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		fmt.Println("hook:", r.URL)
	})
	logged := func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			fmt.Println("log: ", r.URL)
			next.ServeHTTP(w, r)
		})
	}
	app := hidetoken.From(logged(hidetoken.ShowTo(hook)))

	r := httptest.NewRequest(http.MethodPost, "/api/v1/cloudinary?page=1&token=ey…", nil)
	app.ServeHTTP(httptest.NewRecorder(), r)
	// Output:
	// log:  /api/v1/cloudinary?page=1&token=REDACTED
	// hook: /api/v1/cloudinary?page=1&token=ey…
}
