package cloudinaryhook

import (
	"encoding/json"
	"maps"
	"reflect"
	"slices"
	"time"

	jsonv2 "github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/cloudinaryhook/cloudinaryhook/internal/lenient"
)

// A NotificationType is the event a notification is about, from its
// notification_type. Cloudinary may add types at any time. A notification whose
// type has no constant here is handled like any other.
type NotificationType string

// The documented notification types. Those from TypeGenerateArchive on have no
// published body and decode to [UnknownPayload], which keeps everything.
const (
	TypeUpload                     NotificationType = "upload"                        // an asset was uploaded or overwritten
	TypeEager                      NotificationType = "eager"                         // derived assets were made, or failed
	TypeError                      NotificationType = "error"                         // an asynchronous operation failed
	TypeDelete                     NotificationType = "delete"                        // assets were deleted
	TypeRename                     NotificationType = "rename"                        // an asset got another public ID
	TypeMove                       NotificationType = "move"                          // assets moved between folders
	TypeModeration                 NotificationType = "moderation"                    // a moderation ended
	TypeInfo                       NotificationType = "info"                          // an add-on finished its analysis
	TypeExplode                    NotificationType = "explode"                       // pages became images of their own
	TypeSprite                     NotificationType = "sprite"                        // a sprite was made
	TypeMulti                      NotificationType = "multi"                         // images became one animation or document
	TypeCreateFolder               NotificationType = "create_folder"                 // a folder was created
	TypeDeleteFolder               NotificationType = "delete_folder"                 // a folder was deleted
	TypeMoveOrRenameAssetFolder    NotificationType = "move_or_rename_asset_folder"   // a folder got another path
	TypeResourceTagsChanged        NotificationType = "resource_tags_changed"         // tags of assets changed
	TypeResourceContextChanged     NotificationType = "resource_context_changed"      // contextual metadata of assets changed
	TypeResourceMetadataChanged    NotificationType = "resource_metadata_changed"     // structured metadata of assets changed
	TypeResourceDisplayNameChanged NotificationType = "resource_display_name_changed" // display names of assets changed
	TypeAccessControlChanged       NotificationType = "access_control_changed"        // access rules of assets changed
	TypeRelatedAssets              NotificationType = "related_assets"                // assets were related to another, or are no longer
	TypeProofStatusChanged         NotificationType = "proof_status_changed"          // the status of a review of assets changed
	TypeModerationSummary          NotificationType = "moderation_summary"            // all moderations of an asset ended

	TypeGenerateArchive      NotificationType = "generate_archive"        // an archive was made
	TypePublish              NotificationType = "publish"                 // assets were published
	TypeReport               NotificationType = "report"                  // a report is ready
	TypeRestoreAssetVersion  NotificationType = "restore_asset_version"   // a version of an asset was restored
	TypeDeleteByToken        NotificationType = "delete_by_token"         // an asset was deleted by its delete token
	TypeBulkRefreshAutoFetch NotificationType = "bulk_refresh_auto_fetch" // auto-fetched assets were refreshed
	TypeInvalidateCustomCDN  NotificationType = "invalidate_custom_cdn"   // a custom CDN is to be invalidated

	// TypeInvalid does not come from Cloudinary. It means that the
	// notification_type is not a string.
	TypeInvalid NotificationType = "(invalid)"
)

// payloadTypes says what each type decodes to.
var payloadTypes = map[NotificationType]func() decodable{
	TypeUpload:                     typed[UploadPayload],
	TypeEager:                      typed[EagerPayload],
	TypeError:                      typed[ErrorPayload],
	TypeDelete:                     typed[DeletePayload],
	TypeRename:                     typed[RenamePayload],
	TypeMove:                       typed[MovePayload],
	TypeModeration:                 typed[ModerationPayload],
	TypeInfo:                       typed[InfoPayload],
	TypeExplode:                    typed[ExplodePayload],
	TypeSprite:                     typed[SpritePayload],
	TypeMulti:                      typed[MultiPayload],
	TypeCreateFolder:               typed[CreateFolderPayload],
	TypeDeleteFolder:               typed[DeleteFolderPayload],
	TypeMoveOrRenameAssetFolder:    typed[MoveOrRenameAssetFolderPayload],
	TypeResourceTagsChanged:        typed[ResourceTagsChangedPayload],
	TypeResourceContextChanged:     typed[ResourceContextChangedPayload],
	TypeResourceMetadataChanged:    typed[ResourceMetadataChangedPayload],
	TypeResourceDisplayNameChanged: typed[ResourceDisplayNameChangedPayload],
	TypeAccessControlChanged:       typed[AccessControlChangedPayload],
	TypeRelatedAssets:              typed[RelatedAssetsPayload],
	TypeProofStatusChanged:         typed[ProofStatusChangedPayload],
	TypeModerationSummary:          typed[ModerationSummaryPayload],

	TypeGenerateArchive:      typed[UnknownPayload],
	TypePublish:              typed[UnknownPayload],
	TypeReport:               typed[UnknownPayload],
	TypeRestoreAssetVersion:  typed[UnknownPayload],
	TypeDeleteByToken:        typed[UnknownPayload],
	TypeBulkRefreshAutoFetch: typed[UnknownPayload],
	TypeInvalidateCustomCDN:  typed[UnknownPayload],
	TypeInvalid:              typed[UnknownPayload],
}

// A decodable is what a body is decoded to, by its type.
type decodable interface{ payload() Payload }

func newDecodable(n *Notification) decodable {
	if n.Type == "" && n.PublicID != "" {
		return typed[UploadPayload]() // uploads of 2019 have no notification_type
	}
	if known, ok := payloadTypes[n.Type]; ok {
		return known()
	}
	return typed[UnknownPayload]()
}

// A whole is a payload, and the members that it has no field for. Go 1.27 and
// later read the option "embed" of the tags, and earlier versions "inline".
type whole[T any, P interface {
	*T
	Payload
}] struct {
	Payload T                          `json:",embed,inline"`
	Extra   map[string]json.RawMessage `json:",embed,inline"`

	// If two fields on one level have the same name, json/v2 uses neither. So a
	// body's own member "Extra" does not get into the Extra of a Rest.
	Twice struct{ Rest } `json:",embed,inline"`
}

func typed[T any, P interface {
	*T
	Payload
}]() decodable {
	return new(whole[T, P])
}

func (w *whole[T, P]) payload() Payload {
	p := P(&w.Payload)
	p.rest().Extra = w.Extra
	return p
}

// NotificationContext says what caused a notification.
type NotificationContext struct {
	TriggeredAt time.Time   `json:"triggered_at"`
	TriggeredBy TriggeredBy `json:"triggered_by"`
}

// TriggeredBy is the person or program that caused a notification. Source is
// "api" or "ui"; ID is an API key or, from the ui, a person's e-mail address.
type TriggeredBy struct {
	Source string `json:"source"`
	ID     string `json:"id"`
}

// NotificationError says what went wrong at Cloudinary. If a body's error is a
// plain string, that is the Message. Status is an HTTP status code, 0 if not
// given.
type NotificationError struct {
	Message   string `json:"message"`
	Status    int64  `json:"status"`
	RequestID string `json:"request_id"`
}

// UnknownPayload is a notification whose type has no Go type of its own here,
// or a body that has neither a type nor a public_id. Extra has the members that
// are not in a [Notification].
type UnknownPayload struct {
	Notification
	Rest
}

// UploadPayload says that an asset was uploaded. Recorded. Its fields come from
// notifications that were seen, and from the upload's responses in Cloudinary's
// OpenAPI file 0.7.5 of August 2026. A body has only some of them; that depends
// on the upload. Responses of other APIs have more members.
type UploadPayload struct {
	Notification
	Rest

	AccessMode        string `json:"access_mode"`
	OriginalExtension string `json:"original_extension"`
	Filename          string `json:"filename"`
	Signature         string `json:"signature"` // of an API response; proves nothing here
	DeleteToken       string `json:"delete_token"`
	PlaybackURL       string `json:"playback_url"`
	PHash             string `json:"phash"`
	Status            string `json:"status"`
	BatchID           string `json:"batch_id"`     // of what is still being made
	RequesterIP       string `json:"requester_ip"` // if the product environment tracks it; OpenAPI file 0.7.5
	Existing          bool   `json:"existing"`
	Overwritten       bool   `json:"overwritten"`
	Done              bool   `json:"done"`
	IsAudio           bool   `json:"is_audio"`
	SemiTransparent   bool   `json:"semi_transparent"`
	Grayscale         bool   `json:"grayscale"`

	UploadedAt    time.Time             `json:"uploaded_at"`
	LastUpdated   *LastUpdated          `json:"last_updated"`
	CreatedBy     *Actor                `json:"created_by"`
	UploadedBy    *Actor                `json:"uploaded_by"`
	HookExecution map[string]HookResult `json:"hook_execution"` // by hook: "eval", "on_success"

	BackupBytes   int64   `json:"backup_bytes"`
	Pixels        int64   `json:"pixels"`
	AspectRatio   float64 `json:"aspect_ratio"`
	ResourceCount int64   `json:"resource_count"` // of an archive
	FileCount     int64   `json:"file_count"`     // of an archive

	Eager                 []Derived              `json:"eager"`
	ResponsiveBreakpoints []ResponsiveBreakpoint `json:"responsive_breakpoints"`

	Colors                []NamedShare           `json:"colors"` // the name is "#RRGGBB"
	Predominant           *Predominant           `json:"predominant"`
	Faces                 []Rectangle            `json:"faces"`
	Coordinates           *Coordinates           `json:"coordinates"`
	Regions               map[string][]Point     `json:"regions"`        // by name
	Exif                  map[string]string      `json:"exif"`           // of uploads that asked for exif, an older option
	ImageMetadata         map[string]string      `json:"image_metadata"` // EXIF, IPTC, XMP; of names that repeat, the last
	MediaMetadata         map[string]string      `json:"media_metadata"`
	QualityAnalysis       *QualityAnalysis       `json:"quality_analysis"`
	QualityScore          float64                `json:"quality_score"`
	AccessibilityAnalysis *AccessibilityAnalysis `json:"accessibility_analysis"`
	CinemagraphAnalysis   *CinemagraphAnalysis   `json:"cinemagraph_analysis"`
	IllustrationScore     float64                `json:"illustration_score"`
	Info                  Info                   `json:"info"`

	Moderation          []Moderation `json:"moderation"`
	ModerationKind      string       `json:"moderation_kind"`
	ModerationStatus    string       `json:"moderation_status"`
	ModerationUpdatedAt time.Time    `json:"moderation_updated_at"`

	Context       Context                    `json:"context"`
	Metadata      map[string]json.RawMessage `json:"metadata"` // structured metadata by external ID: string, number or list
	AccessControl []AccessRule               `json:"access_control"`

	Video     *Video  `json:"video"`
	Audio     *Audio  `json:"audio"`    // empty, not nil, if there is no track
	BitRate   int64   `json:"bit_rate"` // bits per second
	FrameRate float64 `json:"frame_rate"`
	Duration  float64 `json:"duration"` // seconds
	NbFrames  int64   `json:"nb_frames"`
	Rotation  int64   `json:"rotation"` // degrees
}

// Actor is the person or program that created or uploaded an asset. CustomID
// may be a person's e-mail address, and ExternalID their account with an
// identity provider.
type Actor struct {
	Type       string `json:"type"`
	ID         string `json:"id"`
	ExternalID string `json:"external_id"`
	CustomID   string `json:"custom_id"`
	AccessKey  string `json:"access_key"`
}

// LastUpdated says when parts of an asset changed. A part that never changed has
// the zero time.
type LastUpdated struct {
	UpdatedAt              time.Time `json:"updated_at"`
	AccessControlUpdatedAt time.Time `json:"access_control_updated_at"`
	ContextUpdatedAt       time.Time `json:"context_updated_at"`
	MetadataUpdatedAt      time.Time `json:"metadata_updated_at"`
	PublicIDUpdatedAt      time.Time `json:"public_id_updated_at"`
	TagsUpdatedAt          time.Time `json:"tags_updated_at"`
}

// HookResult is the result of a script that the upload asked for.
type HookResult struct {
	Status string `json:"status"` // "success" or "error"
	Error  string `json:"error"`
}

// Derived is a derived asset of an eager transformation. If it was made, it has
// its URLs. If it failed, Status is "failed", Reason says why, and there is no
// URL. If it is not ready yet, Status is "processing".
type Derived struct {
	Transformation string `json:"transformation"`
	Status         string `json:"status"`
	Reason         string `json:"reason"`
	BatchID        string `json:"batch_id"`
	Format         string `json:"format"`
	URL            string `json:"url"`
	SecureURL      string `json:"secure_url"`
	Bytes          int64  `json:"bytes"`
	Width          int64  `json:"width"`  // 0 for m3u8
	Height         int64  `json:"height"` // 0 for m3u8
}

// ResponsiveBreakpoint is the set of sizes made of one transformation.
type ResponsiveBreakpoint struct {
	Transformation string       `json:"transformation"`
	Breakpoints    []Breakpoint `json:"breakpoints"`
}

// Breakpoint is one size of an image.
type Breakpoint struct {
	Width     int64  `json:"width"`
	Height    int64  `json:"height"`
	Bytes     int64  `json:"bytes"`
	URL       string `json:"url"`
	SecureURL string `json:"secure_url"`
}

// NamedShare is a [name, percentage] pair, such as a color and its share.
type NamedShare struct {
	Name    string
	Percent float64
}

// Rectangle is an [x, y, width, height] list in pixels.
type Rectangle struct {
	X, Y, Width, Height float64
}

// Point is an [x, y] list in pixels.
type Point struct {
	X, Y float64
}

// Predominant has the main colors in the palettes of Google and Cloudinary.
type Predominant struct {
	Google     []NamedShare `json:"google"`
	Cloudinary []NamedShare `json:"cloudinary"`
}

// Coordinates are the regions of an image that were detected or set.
type Coordinates struct {
	Faces  []Rectangle `json:"faces"`
	Custom []Rectangle `json:"custom"`
}

// QualityAnalysis holds scores from 0 to 1.
type QualityAnalysis struct {
	JPEGQuality       float64 `json:"jpeg_quality"`
	JPEGChroma        float64 `json:"jpeg_chroma"`
	Focus             float64 `json:"focus"`
	Noise             float64 `json:"noise"`
	Contrast          float64 `json:"contrast"`
	Exposure          float64 `json:"exposure"`
	Saturation        float64 `json:"saturation"`
	Lighting          float64 `json:"lighting"`
	PixelScore        float64 `json:"pixel_score"`
	ColorScore        float64 `json:"color_score"`
	DCT               float64 `json:"dct"`
	Blockiness        float64 `json:"blockiness"`
	ChromaSubsampling float64 `json:"chroma_subsampling"`
	Resolution        float64 `json:"resolution"`
}

// AccessibilityAnalysis says how well a color-blind person can see an image.
type AccessibilityAnalysis struct {
	ColorblindAccessibilityAnalysis struct {
		DistinctEdges      float64  `json:"distinct_edges"`
		DistinctColors     float64  `json:"distinct_colors"`
		MostIndistinctPair []string `json:"most_indistinct_pair"`
	} `json:"colorblind_accessibility_analysis"`
	ColorblindAccessibilityScore float64 `json:"colorblind_accessibility_score"`
}

// CinemagraphAnalysis says how much of an animation does not move, from 0 to 1.
type CinemagraphAnalysis struct {
	CinemagraphScore float64 `json:"cinemagraph_score"`
}

// Moderation is the state of one moderation of an asset. If an upload asks for
// several, they run one after the other. Status is "queued" while a moderation
// waits, and "pending" while it runs. Then it is "approved" or "rejected". It is
// "aborted" if an earlier moderation rejected the asset. Response is the
// moderator's answer, an object or a list; that depends on the kind. It is nil
// if there is none.
type Moderation struct {
	Kind      string          `json:"kind"`
	Status    string          `json:"status"`
	Response  json.RawMessage `json:"response,omitempty"`
	UpdatedAt time.Time       `json:"updated_at"`
}

// Context is contextual metadata, by key. A body has the keys directly, under
// "custom", or in a list of keys and values. A number or a boolean is kept as
// its text. Other values, such as an object beside "custom", are left out, and
// Mismatched names them.
type Context map[string]string

// AccessRule gives access to a restricted asset. A body has Start and End as
// RFC 3339 or as Unix seconds. They are zero if the rule has no such limit.
type AccessRule struct {
	AccessType string    `json:"access_type"` // "token" or "anonymous"
	Key        string    `json:"key"`
	Path       string    `json:"path"`
	Start      time.Time `json:"start"`
	End        time.Time `json:"end"`
}

// Video describes a video track.
type Video struct {
	PixFormat string `json:"pix_format"`
	Codec     string `json:"codec"`
	Level     int64  `json:"level"` // -99 has been seen where there is none
	Profile   string `json:"profile"`
	BitRate   int64  `json:"bit_rate"` // bits per second; quoted on the wire
	DAR       string `json:"dar"`      // display aspect ratio, as "8:5"
	TimeBase  string `json:"time_base"`
}

// Audio describes an audio track.
type Audio struct {
	Codec         string `json:"codec"`
	BitRate       int64  `json:"bit_rate"`  // bits per second; quoted on the wire
	Frequency     int64  `json:"frequency"` // Hz
	Channels      int64  `json:"channels"`
	ChannelLayout string `json:"channel_layout"`
}

// Info has the results of add-ons as raw JSON, by kind of analysis, such as
// "ocr" or "detection".
type Info map[string]json.RawMessage

// OCR returns the text that was recognized, and false if there was no OCR.
func (i Info) OCR() (OCR, bool) {
	a, ok := analyses(i["ocr"], asItIs)["adv_ocr"]
	found := OCR{Status: a.Status, Failure: a.Failure}
	a.decode(&found.Pages)
	return found, ok
}

// Categorization returns the tags that were found, by add-on, such as
// "google_tagging"; nil if there are none.
func (i Info) Categorization() map[string]Categorization {
	return analyses(i["categorization"], func(_ string, a Analysis) Categorization {
		c := Categorization{Status: a.Status, Failure: a.Failure}
		a.decode(&c.Tags)
		return c
	})
}

// Detection returns the objects, faces and other results for an image, by
// add-on, such as "object_detection"; nil if there are none.
func (i Info) Detection() map[string]Detection {
	return analyses(i["detection"], newDetection)
}

// RawConvert returns the conversions to text, by add-on, such as
// "google_speech"; nil if there are none.
func (i Info) RawConvert() map[string]Analysis { return analyses(i["raw_convert"], asItIs) }

// AutoTranscription returns the state of the transcript of a video, and false if
// none was asked for. The transcript itself is a separate raw asset.
func (i Info) AutoTranscription() (Analysis, bool) { return i.analysis("auto_transcription") }

// AutoChaptering returns the state of the chapters of a video, and false if none
// were asked for.
func (i Info) AutoChaptering() (Analysis, bool) { return i.analysis("auto_chaptering") }

// Analysis is the answer of any add-on. Each add-on has its own shape of Data.
// If the analysis failed, Data is a text that says why, and Failure is that
// text.
type Analysis struct {
	Status        string          `json:"status"` // "pending", "complete", "failed", …
	Failure       string          `json:"-"`
	Data          json.RawMessage `json:"data"`
	ModelVersion  float64         `json:"model_version"`
	SchemaVersion float64         `json:"schema_version"`
}

func (i Info) analysis(name string) (a Analysis, ok bool) {
	raw := jsontext.Value(i[name])
	if raw.Kind() != '{' {
		return a, false
	}
	lenient.Decode(raw, &a, shapes)
	a.decode(&a.Failure)
	return a, true
}

// decode stores the data in v. A part of v that the data does not fit is zero.
func (a Analysis) decode(v any) {
	if a.Data != nil {
		lenient.Decode(jsontext.Value(a.Data), v, shapes)
	}
}

// analyses converts the analyses of several add-ons.
func analyses[T any](raw json.RawMessage, convert func(addOn string, a Analysis) T) (converted map[string]T) {
	var all Info
	if raw != nil {
		lenient.Decode(jsontext.Value(raw), &all, shapes)
	}
	for name := range all {
		if a, ok := all.analysis(name); ok {
			if converted == nil {
				converted = make(map[string]T)
			}
			converted[name] = convert(name, a)
		}
	}
	return converted
}

func asItIs(_ string, a Analysis) Analysis { return a }

// OCR is the text that was recognized. If the OCR failed, Failure says why.
type OCR struct {
	Status  string // "complete", "failed", …
	Failure string
	Pages   []OCRPage
}

// OCRPage is the text of one page, as a whole and by block and word. The layout
// below FullTextAnnotation is only in Info's raw JSON.
type OCRPage struct {
	TextAnnotations []struct {
		Locale       string `json:"locale"`
		Description  string `json:"description"`
		BoundingPoly struct {
			Vertices []struct {
				X int64 `json:"x"`
				Y int64 `json:"y"`
			} `json:"vertices"`
		} `json:"boundingPoly"`
	} `json:"textAnnotations"`
	FullTextAnnotation struct {
		Text string `json:"text"`
	} `json:"fullTextAnnotation"`
}

// Categorization has the tags that one add-on found. If it failed, Failure says
// why.
type Categorization struct {
	Status  string
	Failure string
	Tags    []CategoryTag
}

// CategoryTag is a tag and how sure the add-on is of it, from 0 to 1.
type CategoryTag struct {
	Tag        string  `json:"tag"`
	Confidence float64 `json:"confidence"`
}

// Detection is the result of one add-on for an image. The add-on decides which
// of the fields after SchemaVersion are set. Data always holds the raw answer.
// The answer of adv_face is a list, and only Data has it.
type Detection struct {
	Status        string
	Failure       string
	Data          json.RawMessage
	ModelVersion  float64
	SchemaVersion float64

	Models            map[string]DetectionModel // object_detection
	Caption           string                    // captioning
	Quality           *ImageQuality             // iqa
	Watermark         string                    // watermark-detection, as "clean"
	CelebrityFaces    []DetectedFace            // aws_rek_face; their names are in Data
	UnrecognizedFaces []DetectedFace            // aws_rek_face
}

func newDetection(addOn string, a Analysis) Detection {
	d := Detection{Status: a.Status, Failure: a.Failure, Data: a.Data, ModelVersion: a.ModelVersion, SchemaVersion: a.SchemaVersion}
	switch addOn {
	case "captioning":
		var data struct {
			Caption string `json:"caption"`
		}
		a.decode(&data)
		d.Caption = data.Caption
	case "iqa":
		a.decode(&d.Quality)
	case "watermark-detection":
		var data struct {
			Status string `json:"status"`
		}
		a.decode(&data)
		d.Watermark = data.Status
	case "aws_rek_face":
		var data struct {
			Celebrities  []DetectedFace `json:"celebrity_faces"`
			Unrecognized []DetectedFace `json:"unrecognized_faces"`
		}
		a.decode(&data)
		d.CelebrityFaces, d.UnrecognizedFaces = data.Celebrities, data.Unrecognized
	default:
		a.decode(&d.Models)
		// An add-on that is not known may have data of another shape.
		maps.DeleteFunc(d.Models, func(_ string, m DetectionModel) bool { return m.ModelName == "" && m.Tags == nil })
		if len(d.Models) == 0 {
			d.Models = nil
		}
	}
	return d
}

// ImageQuality says how good an image is, as a score from 0 to 1 and as a word.
type ImageQuality struct {
	Score   float64 `json:"score"`
	Quality string  `json:"quality"` // as "high"
}

// DetectedFace is a face. Confidence is from 0 to 100.
type DetectedFace struct {
	BoundingBox FaceBox `json:"bounding_box"`
	Confidence  float64 `json:"confidence"`
}

// FaceBox says where a face is, in shares of the image's size, from 0 to 1.
type FaceBox struct {
	Left   float64 `json:"left"`
	Top    float64 `json:"top"`
	Width  float64 `json:"width"`
	Height float64 `json:"height"`
}

// DetectionModel is the result of one model: the objects that it found, by tag.
type DetectionModel struct {
	ModelName     string                      `json:"model_name"`
	ModelVersion  float64                     `json:"model_version"`
	SchemaVersion float64                     `json:"schema_version"`
	Tags          map[string][]DetectedObject `json:"tags"`
}

// DetectedObject is one object in an image. An attribute has names with their
// shares. Here NamedShare's Percent is from 0 to 1, not to 100.
type DetectedObject struct {
	BoundingBox Rectangle               `json:"bounding-box"`
	Categories  []string                `json:"categories"`
	Confidence  float64                 `json:"confidence"`
	Attributes  map[string][]NamedShare `json:"attributes"`
}

// EagerPayload says that eager transformations ended. Recorded. Each entry of
// Eager has the result of one.
type EagerPayload struct {
	Notification
	Rest

	BatchID string    `json:"batch_id"` // as in the answer to the upload
	Eager   []Derived `json:"eager"`
}

// ErrorPayload says that an asynchronous operation failed. Recorded. Error says
// why. Params are the parameters of the operation. Their notification_url holds
// a token, so do not log them.
type ErrorPayload struct {
	Notification
	Rest

	Params map[string]string `json:"params"`
}

// Resource is one of several assets that a notification is about. If the body
// has the assets as an object by public ID, Key is that ID. PublicID is the
// same, unless the entry has another one.
type Resource struct {
	Key          string // not a member of the body
	AssetID      string `json:"asset_id"`
	PublicID     string `json:"public_id"`
	ResourceType string `json:"resource_type"`
	DeliveryType string `json:"type"`
	Version      int64  `json:"version"`
	AssetFolder  string `json:"asset_folder"` // in dynamic folder mode
	Folder       string `json:"folder"`       // in fixed folder mode
	DisplayName  string `json:"display_name"`
}

func (r *Resource) setKey(key string) {
	r.Key = key
	if r.PublicID == "" {
		r.PublicID = key
	}
}

// DeletePayload says that assets were deleted. Recorded.
type DeletePayload struct {
	Notification
	Rest

	Resources []Resource `json:"resources"`
}

// RenamePayload says that an asset got another public ID. Recorded. PublicID is
// empty. DisplayName is still the old one. In fixed folder mode, Folder is the
// new one.
type RenamePayload struct {
	Notification
	Rest

	FromPublicID string `json:"from_public_id"`
	ToPublicID   string `json:"to_public_id"`
}

// MovePayload says that assets moved between folders. From a fixture.
type MovePayload struct {
	Notification
	Rest

	Source    string          `json:"source"`
	Resources []MovedResource `json:"resources"`
}

// MovedResource is an asset that moved.
type MovedResource struct {
	Resource
	FromAssetFolder string `json:"from_asset_folder"`
	ToAssetFolder   string `json:"to_asset_folder"`
}

// ModerationPayload says how a moderation ended. Recorded. ModerationResponse
// is the moderator's answer. Its shape depends on the kind.
type ModerationPayload struct {
	Notification
	Rest

	ModerationKind      string          `json:"moderation_kind"`
	ModerationStatus    string          `json:"moderation_status"` // see [Moderation]
	ModerationResponse  json.RawMessage `json:"moderation_response,omitempty"`
	ModerationUpdatedAt time.Time       `json:"moderation_updated_at"`
	UploadedAt          time.Time       `json:"uploaded_at"`
}

// ModerationSummaryPayload says that all moderations of an asset ended, and
// with which result. From a field list. ModerationKind is the moderation that
// decided.
type ModerationSummaryPayload struct {
	Notification
	Rest

	ModerationKind   string `json:"moderation_kind"`
	ModerationStatus string `json:"moderation_status"` // "approved" or "rejected"
}

// InfoPayload has the result of an add-on. Recorded. InfoKind is the kind of
// analysis, such as "ocr", "detection", "auto_transcription", "auto_chaptering"
// or "raw_convert". InfoData is an object or a list; that depends on the kind.
// It is nil if the result is a separate asset. If InfoStatus is "failed", it is
// a text that says why.
type InfoPayload struct {
	Notification
	Rest

	InfoKind   string          `json:"info_kind"`
	InfoStatus string          `json:"info_status"`
	InfoData   json.RawMessage `json:"info_data,omitempty"`
	UploadedAt time.Time       `json:"uploaded_at"`
}

// ExplodePayload says that the pages of a document became images. Recorded.
// Pages is the number of pages.
type ExplodePayload struct {
	Notification
	Rest

	BatchID    string      `json:"batch_id"`
	ImageInfos []ImageInfo `json:"image_infos"`
}

// SpritePayload says that several images were put together in one image.
// Recorded. Each ImageInfo has the position of one of them.
type SpritePayload struct {
	Notification
	Rest

	BatchID        string      `json:"batch_id"`
	CSSURL         string      `json:"css_url"`
	SecureCSSURL   string      `json:"secure_css_url"`
	ImageURL       string      `json:"image_url"`
	SecureImageURL string      `json:"secure_image_url"`
	JSONURL        string      `json:"json_url"`
	SecureJSONURL  string      `json:"secure_json_url"`
	ImageInfos     []ImageInfo `json:"image_infos"`
}

// ImageInfo is one of several images. If the body has the images as an object
// by URL, Key is that URL. URL is the same, unless the entry has another one.
type ImageInfo struct {
	Key       string // not a member of the body
	URL       string `json:"url"`
	SecureURL string `json:"secure_url"`
	Bytes     int64  `json:"bytes"`
	Width     int64  `json:"width"`
	Height    int64  `json:"height"`
	X         int64  `json:"x"`
	Y         int64  `json:"y"`
}

func (i *ImageInfo) setKey(key string) {
	i.Key = key
	if i.URL == "" {
		i.URL = key
	}
}

// MultiPayload says that images became one animation or document. From a
// published field list. BatchID is not in that list; it is here as in
// [SpritePayload].
type MultiPayload struct {
	Notification
	Rest

	BatchID string `json:"batch_id"`
}

// CreateFolderPayload says that a folder was created. From a published field
// list. Resources is from an integrator's fixture, where it is empty.
type CreateFolderPayload struct {
	Notification
	Rest

	Source     string     `json:"source"`
	FolderPath string     `json:"folder_path"`
	FolderName string     `json:"folder_name"`
	Resources  []Resource `json:"resources"`
}

// DeleteFolderPayload says that a folder was deleted. From a published field
// list. Resources is from an integrator's fixture, where it is empty.
type DeleteFolderPayload struct {
	Notification
	Rest

	Source     string     `json:"source"`
	FolderPath string     `json:"folder_path"`
	FolderName string     `json:"folder_name"`
	Resources  []Resource `json:"resources"`
}

// MoveOrRenameAssetFolderPayload says that a folder got another path. From a
// published field list. Resources is from an integrator's fixture, where it is
// empty.
type MoveOrRenameAssetFolderPayload struct {
	Notification
	Rest

	Source    string     `json:"source"`
	FromPath  string     `json:"from_path"`
	ToPath    string     `json:"to_path"`
	Status    string     `json:"status"`
	Resources []Resource `json:"resources"`
}

// ResourceTagsChangedPayload says which tags changed. From a fixture.
type ResourceTagsChangedPayload struct {
	Notification
	Rest

	Source    string       `json:"source"`
	Resources []TagsChange `json:"resources"`
}

// TagsChange is the change of one asset's tags.
type TagsChange struct {
	Resource
	Added   []string `json:"added"`
	Removed []string `json:"removed"`
	Updated []string `json:"updated"`
}

// ResourceContextChangedPayload says which context changed. From a field list.
type ResourceContextChangedPayload struct {
	Notification
	Rest

	Source    string          `json:"source"`
	Resources []ContextChange `json:"resources"`
}

// ContextChange is the change of one asset's context. Removed holds names.
type ContextChange struct {
	Resource
	Added   Context  `json:"added"`
	Removed []string `json:"removed"`
	Updated Context  `json:"updated"`
}

// ResourceMetadataChangedPayload says which structured metadata of assets
// changed. From a published field list.
type ResourceMetadataChangedPayload struct {
	Notification
	Rest

	Source    string           `json:"source"`
	Resources []MetadataChange `json:"resources"`
}

// MetadataChange is one asset's structured metadata before and after, by
// external ID: strings, numbers or lists.
type MetadataChange struct {
	Resource
	PreviousMetadata map[string]json.RawMessage `json:"previous_metadata"`
	NewMetadata      map[string]json.RawMessage `json:"new_metadata"`
}

// ResourceDisplayNameChangedPayload says which display names changed. From an
// integrator's fixture, which has DisplayName, and a published field list,
// which has PreviousDisplayName and NewDisplayName.
type ResourceDisplayNameChangedPayload struct {
	Notification
	Rest

	Source    string              `json:"source"`
	Resources []DisplayNameChange `json:"resources"`
}

// DisplayNameChange is the change of one asset's display name.
type DisplayNameChange struct {
	Resource
	PreviousDisplayName string `json:"previous_display_name"`
	NewDisplayName      string `json:"new_display_name"`
	FromAssetFolder     string `json:"from_asset_folder"`
	ToAssetFolder       string `json:"to_asset_folder"`
}

// AccessControlChangedPayload says which assets got other access rules. From a
// published field list.
type AccessControlChangedPayload struct {
	Notification
	Rest

	Source    string                `json:"source"`
	Resources []AccessControlChange `json:"resources"`
}

// AccessControlChange is one asset's access rules before and after.
type AccessControlChange struct {
	Resource
	PreviousAccessControl []AccessRule `json:"previous_access_control"`
	NewAccessControl      []AccessRule `json:"new_access_control"`
}

// RelatedAssetsPayload says that assets were related to the asset AssetID, or
// are no longer related to it. From a published field list.
type RelatedAssetsPayload struct {
	Notification
	Rest

	ActionType   string `json:"action_type"`
	TotalFailed  int64  `json:"total_failed"`
	TotalSuccess int64  `json:"total_success"`
}

// ProofStatusChangedPayload says that the status of a review of assets changed.
// From a field list.
type ProofStatusChangedPayload struct {
	Notification
	Rest

	ProofID        string     `json:"proof_id"`
	ProofName      string     `json:"proof_name"`
	PreviousStatus string     `json:"previous_status"`
	NewStatus      string     `json:"new_status"`
	StageName      string     `json:"stage_name"`
	StageNumber    int64      `json:"stage_number"`
	Reviewer       *Reviewer  `json:"reviewer"`
	Assets         []Resource `json:"assets"`
}

// Reviewer is the person who changed the status of a review.
type Reviewer struct {
	ID   string `json:"id"`
	Name string `json:"name"`
}

// shapes decode the members that come in more than one shape to one Go type.
var shapes = jsonv2.JoinUnmarshalers(
	lenient.Numbers,
	jsonv2.UnmarshalFromFunc(unmarshalError),
	jsonv2.UnmarshalFromFunc(unmarshalShare),
	jsonv2.UnmarshalFromFunc(unmarshalRectangle),
	jsonv2.UnmarshalFromFunc(unmarshalPoint),
	jsonv2.UnmarshalFromFunc(unmarshalContext),
	jsonv2.UnmarshalFromFunc(unmarshalContextText),
	jsonv2.UnmarshalFromFunc(unmarshalAccessRule),
	jsonv2.UnmarshalFromFunc(unmarshalUnixTime),
	jsonv2.UnmarshalFromFunc(unmarshalModerations),
	jsonv2.UnmarshalFromFunc(unmarshalRegions),
	jsonv2.UnmarshalFromFunc(unmarshalKeyed[Resource]),
	jsonv2.UnmarshalFromFunc(unmarshalKeyed[MovedResource]),
	jsonv2.UnmarshalFromFunc(unmarshalKeyed[TagsChange]),
	jsonv2.UnmarshalFromFunc(unmarshalKeyed[ContextChange]),
	jsonv2.UnmarshalFromFunc(unmarshalKeyed[MetadataChange]),
	jsonv2.UnmarshalFromFunc(unmarshalKeyed[DisplayNameChange]),
	jsonv2.UnmarshalFromFunc(unmarshalKeyed[AccessControlChange]),
	jsonv2.UnmarshalFromFunc(unmarshalKeyed[ImageInfo]),
)

func unmarshalError(dec *jsontext.Decoder, e *NotificationError) error {
	if dec.PeekKind() == '"' {
		return jsonv2.UnmarshalDecode(dec, &e.Message)
	}
	type object NotificationError // without this function
	return jsonv2.UnmarshalDecode(dec, (*object)(e))
}

// asAWhole replaces the functions that skip a value which does not fit: half a
// rectangle is worse than none.
var asAWhole = jsonv2.WithUnmarshalers(lenient.Numbers)

func unmarshalShare(dec *jsontext.Decoder, s *NamedShare) error {
	*s = NamedShare{}
	open, err := dec.ReadToken()
	if err != nil || open.Kind() == 'n' {
		return err
	}
	if open.Kind() != '[' {
		return lenient.ErrShape
	}
	if err := jsonv2.UnmarshalDecode(dec, &s.Name, asAWhole); err != nil {
		return err
	}
	if err := jsonv2.UnmarshalDecode(dec, &s.Percent, asAWhole); err != nil {
		return err
	}
	if end, err := dec.ReadToken(); err != nil || end.Kind() != ']' {
		return lenient.ErrShape
	}
	return nil
}

func unmarshalRectangle(dec *jsontext.Decoder, r *Rectangle) error {
	return unmarshalFloats(dec, &r.X, &r.Y, &r.Width, &r.Height)
}

func unmarshalPoint(dec *jsontext.Decoder, p *Point) error { return unmarshalFloats(dec, &p.X, &p.Y) }

// unmarshalFloats takes a list of exactly as many numbers, or null.
func unmarshalFloats(dec *jsontext.Decoder, fields ...*float64) error {
	list := make([]float64, 0, 4)
	if err := jsonv2.UnmarshalDecode(dec, &list, asAWhole); err != nil {
		return err
	}
	if list == nil { // null
		list = make([]float64, len(fields))
	}
	if len(list) != len(fields) {
		return lenient.ErrShape
	}
	for i, field := range fields {
		*field = list[i]
	}
	return nil
}

func unmarshalContext(dec *jsontext.Decoder, c *Context) error {
	*c = nil
	switch dec.PeekKind() {
	case '[':
		var pairs []struct {
			Key   string      `json:"key"`
			Value contextText `json:"value"`
		}
		texts := jsonv2.WithUnmarshalers(jsonv2.UnmarshalFromFunc(unmarshalContextText))
		if err := jsonv2.UnmarshalDecode(dec, &pairs, texts); err != nil {
			return err
		}
		*c = make(Context, len(pairs))
		for _, pair := range pairs {
			(*c)[pair.Key] = string(pair.Value)
		}
		return nil
	case '{':
		*c = make(Context)
		return c.read(dec, true)
	}
	return jsonv2.UnmarshalDecode(dec, (*map[string]string)(c))
}

// read takes members under "custom" as if they were beside it.
func (c Context) read(dec *jsontext.Decoder, outside bool) error {
	return lenient.Object(dec, func(quoted jsontext.Value) error {
		name := string(lenient.Unquote(quoted))
		if outside && name == "custom" && dec.PeekKind() == '{' {
			return c.read(dec, false)
		}
		var text *contextText
		err := jsonv2.UnmarshalDecode(dec, &text)
		if text != nil {
			c[name] = string(*text)
		}
		return err
	})
}

// A contextText is a string, or the text of a number or a boolean.
type contextText string

func unmarshalContextText(dec *jsontext.Decoder, text *contextText) error {
	value, err := dec.ReadValue()
	if err != nil {
		return err
	}
	switch value.Kind() {
	case '"':
		*text = contextText(lenient.Unquote(value))
	case '0', 't', 'f':
		*text = contextText(value)
	case 'n':
		*text = ""
	default:
		return lenient.ErrShape
	}
	return nil
}

func unmarshalAccessRule(dec *jsontext.Decoder, r *AccessRule) error {
	var rule struct {
		AccessRule
		Start unixTime `json:"start"`
		End   unixTime `json:"end"`
	}
	err := jsonv2.UnmarshalDecode(dec, &rule)
	*r = rule.AccessRule
	r.Start, r.End = time.Time(rule.Start), time.Time(rule.End)
	return err
}

// A unixTime comes as RFC 3339 or in Unix seconds.
type unixTime time.Time

func unmarshalUnixTime(dec *jsontext.Decoder, t *unixTime) error {
	value, err := dec.ReadValue()
	if err != nil {
		return err
	}
	seconds, ok := lenient.Int(value)
	if !ok {
		return jsonv2.Unmarshal(value, (*time.Time)(t))
	}
	if *t = unixTime(time.Unix(seconds, 0).UTC()); seconds < 0 || (*time.Time)(t).Year() > 9999 {
		return lenient.ErrShape // milliseconds, or nonsense
	}
	return nil
}

// unmarshalModerations takes one moderation for a list of one, and {} for none.
func unmarshalModerations(dec *jsontext.Decoder, list *[]Moderation) error {
	if dec.PeekKind() == '{' {
		*list = make([]Moderation, 1)
		err := jsonv2.UnmarshalDecode(dec, &(*list)[0])
		*list = slices.DeleteFunc(*list, func(m Moderation) bool { return reflect.ValueOf(m).IsZero() })
		return err
	}
	type moderations []Moderation // without this function
	return jsonv2.UnmarshalDecode(dec, (*moderations)(list))
}

// unmarshalRegions takes a list too: OpenAPI file 0.7.5 has one for text images.
func unmarshalRegions(dec *jsontext.Decoder, regions *map[string][]Point) error {
	type object map[string][]Point // without this function
	if dec.PeekKind() != '[' {
		return jsonv2.UnmarshalDecode(dec, (*object)(regions))
	}
	var list []object
	err := jsonv2.UnmarshalDecode(dec, &list)
	*regions = make(map[string][]Point)
	for _, named := range list {
		maps.Copy(*regions, named)
	}
	return err
}

func unmarshalKeyed[T any](dec *jsontext.Decoder, list *[]T) error {
	open, err := dec.ReadToken()
	if err != nil || open.Kind() == 'n' {
		*list = nil
		return err
	}
	if open.Kind() != '[' && open.Kind() != '{' {
		return lenient.ErrShape
	}
	*list = []T{}
	for kind := dec.PeekKind(); kind != ']' && kind != '}'; kind = dec.PeekKind() {
		var key string
		if open.Kind() == '{' {
			if err := jsonv2.UnmarshalDecode(dec, &key); err != nil {
				return err
			}
		}
		var element T
		if err := jsonv2.UnmarshalDecode(dec, &element); err != nil {
			return err
		}
		if open.Kind() == '{' {
			any(&element).(keyed).setKey(key)
		}
		*list = append(*list, element)
	}
	_, err = dec.ReadToken()
	return err
}

// keyed is an element of a list that may come as an object by key.
type keyed interface{ setKey(key string) }
