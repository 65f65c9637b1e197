package cloudinaryhook

import (
	stdjson "encoding/json"
	"errors"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// The documented notification types. Those from TypeModerationSummary on have
// no published body and decode to [UnknownPayload], which keeps everything.
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
	TypeRelatedAssets              NotificationType = "related_assets"                // assets were related, or no longer
	TypeProofStatusChanged         NotificationType = "proof_status_changed"          // a review of assets moved on

	TypeModerationSummary    NotificationType = "moderation_summary"      // all moderations of an asset ended
	TypeGenerateArchive      NotificationType = "generate_archive"        // an archive was made
	TypePublish              NotificationType = "publish"                 // assets were published
	TypeReport               NotificationType = "report"                  // a report is ready
	TypeRestoreAssetVersion  NotificationType = "restore_asset_version"   // a version of an asset was restored
	TypeDeleteByToken        NotificationType = "delete_by_token"         // an asset was deleted by its delete token
	TypeBulkRefreshAutoFetch NotificationType = "bulk_refresh_auto_fetch" // auto-fetched assets were refreshed
	TypeInvalidateCustomCDN  NotificationType = "invalidate_custom_cdn"   // a custom CDN is to be invalidated

	// TypeInvalid is not Cloudinary's: it stands for a notification_type that
	// is no string.
	TypeInvalid NotificationType = "(invalid)"
)

// payloadTypes says what each type decodes to.
var payloadTypes = map[NotificationType]func() Payload{
	TypeUpload:                     func() Payload { return new(UploadPayload) },
	TypeEager:                      func() Payload { return new(EagerPayload) },
	TypeError:                      func() Payload { return new(ErrorPayload) },
	TypeDelete:                     func() Payload { return new(DeletePayload) },
	TypeRename:                     func() Payload { return new(RenamePayload) },
	TypeMove:                       func() Payload { return new(MovePayload) },
	TypeModeration:                 func() Payload { return new(ModerationPayload) },
	TypeInfo:                       func() Payload { return new(InfoPayload) },
	TypeExplode:                    func() Payload { return new(ExplodePayload) },
	TypeSprite:                     func() Payload { return new(SpritePayload) },
	TypeMulti:                      func() Payload { return new(MultiPayload) },
	TypeCreateFolder:               func() Payload { return new(CreateFolderPayload) },
	TypeDeleteFolder:               func() Payload { return new(DeleteFolderPayload) },
	TypeMoveOrRenameAssetFolder:    func() Payload { return new(MoveOrRenameAssetFolderPayload) },
	TypeResourceTagsChanged:        func() Payload { return new(ResourceTagsChangedPayload) },
	TypeResourceContextChanged:     func() Payload { return new(ResourceContextChangedPayload) },
	TypeResourceMetadataChanged:    func() Payload { return new(ResourceMetadataChangedPayload) },
	TypeResourceDisplayNameChanged: func() Payload { return new(ResourceDisplayNameChangedPayload) },
	TypeAccessControlChanged:       func() Payload { return new(AccessControlChangedPayload) },
	TypeRelatedAssets:              func() Payload { return new(RelatedAssetsPayload) },
	TypeProofStatusChanged:         func() Payload { return new(ProofStatusChangedPayload) },

	TypeModerationSummary:    newUnknown,
	TypeGenerateArchive:      newUnknown,
	TypePublish:              newUnknown,
	TypeReport:               newUnknown,
	TypeRestoreAssetVersion:  newUnknown,
	TypeDeleteByToken:        newUnknown,
	TypeBulkRefreshAutoFetch: newUnknown,
	TypeInvalidateCustomCDN:  newUnknown,
	TypeInvalid:              newUnknown,
}

func newUnknown() Payload { return new(UnknownPayload) }

func newPayload(n *Notification) Payload {
	if n.Type == "" && n.PublicID != "" {
		return new(UploadPayload) // uploads of 2019 have no notification_type
	}
	if make, ok := payloadTypes[n.Type]; ok {
		return make()
	}
	return new(UnknownPayload)
}

// UnknownPayload is a notification of a type without a shape of its own, or of
// none: a templated body. What is not common to all notifications is in Extra.
type UnknownPayload struct {
	Notification
	Rest
}

// UploadPayload says that an asset was uploaded. Recorded. The fields beyond
// the common ones depend on what the upload asked for; they are also those of
// the asset in Cloudinary's API responses.
type UploadPayload struct {
	Notification
	Rest

	Folder            string `json:"folder"` // in fixed folder mode; asset_folder in dynamic mode
	AccessMode        string `json:"access_mode"`
	OriginalExtension string `json:"original_extension"`
	Filename          string `json:"filename"`
	Signature         string `json:"signature"` // of an API response; proves nothing here
	DeleteToken       string `json:"delete_token"`
	PlaybackURL       string `json:"playback_url"`
	PHash             string `json:"phash"`
	Status            string `json:"status"`
	BatchID           string `json:"batch_id"` // of derived assets that are still being made
	Existing          bool   `json:"existing"`
	Overwritten       bool   `json:"overwritten"`
	Done              bool   `json:"done"`
	IsAudio           bool   `json:"is_audio"`
	SemiTransparent   bool   `json:"semi_transparent"`
	Grayscale         bool   `json:"grayscale"`

	UploadedAt time.Time `json:"uploaded_at"`
	CreatedBy  *Actor    `json:"created_by"`
	UploadedBy *Actor    `json:"uploaded_by"`

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

	Context       Context                       `json:"context"`
	Metadata      map[string]stdjson.RawMessage `json:"metadata"` // structured metadata by external ID: string, number or list
	AccessControl []AccessRule                  `json:"access_control"`

	Video     *Video  `json:"video"`
	Audio     *Audio  `json:"audio"`    // empty, not nil, if there is no track
	BitRate   int64   `json:"bit_rate"` // bits per second
	FrameRate float64 `json:"frame_rate"`
	Duration  float64 `json:"duration"` // seconds
	NbFrames  int64   `json:"nb_frames"`
	Rotation  int64   `json:"rotation"` // degrees
}

// Actor is who created or uploaded an asset.
type Actor struct {
	Type      string `json:"type"`
	ID        string `json:"id"`
	AccessKey string `json:"access_key"`
}

// Derived is a derived asset of an eager transformation: made, with its URLs;
// failed, with Status "failed" and a Reason and no URL; or Status "processing".
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

// NamedShare is a [name, percentage] pair, as a color and how much of the
// image has it.
type NamedShare struct {
	Name    string
	Percent float64
}

// Rectangle is an [x, y, width, height] list in pixels.
type Rectangle struct {
	X, Y, Width, Height float64
}

// Predominant is the predominant colors by the palettes of Google and
// Cloudinary.
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

// CinemagraphAnalysis scores, from 0 to 1, how much of an animation stands still.
type CinemagraphAnalysis struct {
	CinemagraphScore float64 `json:"cinemagraph_score"`
}

// Moderation is the state of one moderation of an asset. Response is the
// moderator's answer, an object or a list by kind; nil while it is pending.
type Moderation struct {
	Kind      string             `json:"kind"`
	Status    string             `json:"status"` // "pending", "approved", "rejected", …
	Response  stdjson.RawMessage `json:"response"`
	UpdatedAt time.Time          `json:"updated_at"`
}

// Context is contextual metadata. It comes flat, under "custom", or as a list
// of key and value; here it is always flat.
type Context map[string]string

// AccessRule lets somebody reach an asset that is restricted. Start and End
// are zero where the rule has no bound.
type AccessRule struct {
	AccessType string    `json:"access_type"` // "token" or "anonymous"
	Key        string    `json:"key"`
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

// Info is what add-ons found out about an asset, raw by kind of analysis, as
// "ocr" or "detection".
type Info map[string]stdjson.RawMessage

// OCR returns the text that was recognised, and false if there was no OCR.
func (i Info) OCR() (OCR, bool) {
	var all struct {
		AdvOCR *analysis `json:"adv_ocr"`
	}
	if raw := i["ocr"]; raw == nil || decode(jsontext.Value(raw), &all) != nil || all.AdvOCR == nil {
		return OCR{}, false
	}
	found := OCR{Status: all.AdvOCR.Status, Failure: all.AdvOCR.failure()}
	all.AdvOCR.decode(&found.Pages)
	return found, true
}

// Categorization returns the tags that were found, by add-on, as
// "google_tagging"; nil if there are none.
func (i Info) Categorization() map[string]Categorization {
	return analyses(i["categorization"], func(a analysis) (c Categorization) {
		c.Status, c.Failure = a.Status, a.failure()
		a.decode(&c.Tags)
		return c
	})
}

// Detection returns the objects that were found, by add-on, as
// "object_detection"; nil if there are none.
func (i Info) Detection() map[string]Detection {
	return analyses(i["detection"], func(a analysis) (d Detection) {
		d.Status, d.Failure, d.Data = a.Status, a.failure(), a.Data
		a.decode(&d.Models)
		return d
	})
}

// analysis is what all add-ons answer: data of a kind of their own, or a
// string that says why it failed.
type analysis struct {
	Status string             `json:"status"`
	Data   stdjson.RawMessage `json:"data"`
}

func (a analysis) failure() string {
	if jsontext.Value(a.Data).Kind() != '"' {
		return ""
	}
	return string(unquote(jsontext.Value(a.Data)))
}

// decode leaves v as far zero as the data does not fit it.
func (a analysis) decode(v any) {
	if a.Data != nil {
		decode(jsontext.Value(a.Data), v)
	}
}

func analyses[T any](raw stdjson.RawMessage, convert func(analysis) T) map[string]T {
	var all map[string]analysis
	if raw == nil || decode(jsontext.Value(raw), &all) != nil || len(all) == 0 {
		return nil
	}
	converted := make(map[string]T, len(all))
	for name, a := range all {
		converted[name] = convert(a)
	}
	return converted
}

// OCR is recognised text. Failure says why there is none.
type OCR struct {
	Status  string // "complete", "failed", …
	Failure string
	Pages   []OCRPage
}

// OCRPage is the text of one page: whole, and by block and word. The layout
// below FullTextAnnotation is in Info's raw JSON.
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

// Categorization is the tags that one add-on found. Failure says why there are
// none.
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

// Detection is what one add-on found in an image. Models is its data by
// model where it has that shape, as object_detection; Data is always the raw
// answer, a list for adv_face.
type Detection struct {
	Status  string
	Failure string
	Data    stdjson.RawMessage
	Models  map[string]DetectionModel
}

// DetectionModel is what one model found, by tag.
type DetectionModel struct {
	ModelName     string                      `json:"model_name"`
	ModelVersion  int64                       `json:"model_version"`
	SchemaVersion int64                       `json:"schema_version"`
	Tags          map[string][]DetectedObject `json:"tags"`
}

// DetectedObject is one object in an image. An attribute has names with their
// share, from 0 to 1 despite NamedShare's Percent.
type DetectedObject struct {
	BoundingBox Rectangle               `json:"bounding-box"`
	Categories  []string                `json:"categories"`
	Confidence  float64                 `json:"confidence"`
	Attributes  map[string][]NamedShare `json:"attributes"`
}

// EagerPayload says that eager transformations ended; each entry says how.
// Recorded.
type EagerPayload struct {
	Notification
	Rest

	BatchID string    `json:"batch_id"` // as in the answer to the upload
	Eager   []Derived `json:"eager"`
}

// ErrorPayload says that an asynchronous operation failed; Error says why.
// Recorded. Params are those of the operation; their notification_url holds a
// token, so do not log them.
type ErrorPayload struct {
	Notification
	Rest

	Params map[string]string `json:"params"`
}

// Resource is one of several assets that a notification is about. Where the
// body has them by public ID, Key is that key, and PublicID too unless the
// entry names another.
type Resource struct {
	Key          string `json:"-"`
	AssetID      string `json:"asset_id"`
	PublicID     string `json:"public_id"`
	ResourceType string `json:"resource_type"`
	DeliveryType string `json:"type"`
	Version      int64  `json:"version"`
	AssetFolder  string `json:"asset_folder"`
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

// RenamePayload says that an asset got another public ID. Recorded. PublicID
// is empty, and DisplayName still the old one.
type RenamePayload struct {
	Notification
	Rest

	FromPublicID string `json:"from_public_id"`
	ToPublicID   string `json:"to_public_id"`
}

// MovePayload says that assets moved between folders. From an integrator's
// fixture.
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

// ModerationPayload says how a moderation ended. Recorded. Response is the
// moderator's answer, whose shape depends on the kind.
type ModerationPayload struct {
	Notification
	Rest

	ModerationKind      string             `json:"moderation_kind"`
	ModerationStatus    string             `json:"moderation_status"` // "approved", "rejected", …
	ModerationResponse  stdjson.RawMessage `json:"moderation_response"`
	ModerationUpdatedAt time.Time          `json:"moderation_updated_at"`
	UploadedAt          time.Time          `json:"uploaded_at"`
}

// InfoPayload says what an add-on found out. Recorded. InfoData is an object
// or a list by kind.
type InfoPayload struct {
	Notification
	Rest

	InfoKind   string             `json:"info_kind"`
	InfoStatus string             `json:"info_status"`
	InfoData   stdjson.RawMessage `json:"info_data"`
	UploadedAt time.Time          `json:"uploaded_at"`
}

// ExplodePayload says that the pages of a document became images. Recorded.
// Pages is their number.
type ExplodePayload struct {
	Notification
	Rest

	BatchID    string      `json:"batch_id"`
	ImageInfos []ImageInfo `json:"image_infos"`
}

// SpritePayload says that images were put together in one. Recorded. Each
// ImageInfo says where an image stands in it.
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

// ImageInfo is one of several images. Where the body has them by URL, Key is
// that URL, and URL too unless the entry names another.
type ImageInfo struct {
	Key       string `json:"-"`
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
// published field list; all its fields are common ones.
type MultiPayload struct {
	Notification
	Rest

	BatchID string `json:"batch_id"`
}

// CreateFolderPayload says that a folder was created. From a published field
// list; Resources, empty, is from an integrator's fixture.
type CreateFolderPayload struct {
	Notification
	Rest

	Source     string     `json:"source"`
	FolderPath string     `json:"folder_path"`
	FolderName string     `json:"folder_name"`
	Resources  []Resource `json:"resources"`
}

// DeleteFolderPayload says that a folder was deleted. From a published field
// list; Resources, empty, is from an integrator's fixture.
type DeleteFolderPayload struct {
	Notification
	Rest

	Source     string     `json:"source"`
	FolderPath string     `json:"folder_path"`
	FolderName string     `json:"folder_name"`
	Resources  []Resource `json:"resources"`
}

// MoveOrRenameAssetFolderPayload says that a folder got another path. From a
// published field list; Resources, empty, is from an integrator's fixture.
type MoveOrRenameAssetFolderPayload struct {
	Notification
	Rest

	Source    string     `json:"source"`
	FromPath  string     `json:"from_path"`
	ToPath    string     `json:"to_path"`
	Status    string     `json:"status"`
	Resources []Resource `json:"resources"`
}

// ResourceTagsChangedPayload says which tags of assets changed. From an
// integrator's fixture.
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

// ResourceContextChangedPayload says which contextual metadata of assets
// changed. From a published field list.
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
	PreviousMetadata map[string]stdjson.RawMessage `json:"previous_metadata"`
	NewMetadata      map[string]stdjson.RawMessage `json:"new_metadata"`
}

// ResourceDisplayNameChangedPayload says which display names changed. From an
// integrator's fixture, which has DisplayName, and a published field list,
// which has the two others.
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

// RelatedAssetsPayload says that assets were related to AssetID, or no longer
// are. From a published field list.
type RelatedAssetsPayload struct {
	Notification
	Rest

	ActionType   string `json:"action_type"`
	TotalFailed  int64  `json:"total_failed"`
	TotalSuccess int64  `json:"total_success"`
}

// ProofStatusChangedPayload says that a review of assets moved on. From a
// published field list.
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

// Reviewer is who moved a review on: a person's name, and their id.
type Reviewer struct {
	ID   string `json:"id"`
	Name string `json:"name"`
}

// Each payload type has these two methods by itself rather than from what it
// embeds, so that nothing else that embeds a Notification is a Payload.

// Common returns what all notifications have.
func (p *UnknownPayload) Common() *Notification { return &p.Notification }
func (p *UnknownPayload) rest() *Rest           { return &p.Rest }

// Common returns what all notifications have.
func (p *UploadPayload) Common() *Notification { return &p.Notification }
func (p *UploadPayload) rest() *Rest           { return &p.Rest }

// Common returns what all notifications have.
func (p *EagerPayload) Common() *Notification { return &p.Notification }
func (p *EagerPayload) rest() *Rest           { return &p.Rest }

// Common returns what all notifications have.
func (p *ErrorPayload) Common() *Notification { return &p.Notification }
func (p *ErrorPayload) rest() *Rest           { return &p.Rest }

// Common returns what all notifications have.
func (p *DeletePayload) Common() *Notification { return &p.Notification }
func (p *DeletePayload) rest() *Rest           { return &p.Rest }

// Common returns what all notifications have.
func (p *RenamePayload) Common() *Notification { return &p.Notification }
func (p *RenamePayload) rest() *Rest           { return &p.Rest }

// Common returns what all notifications have.
func (p *MovePayload) Common() *Notification { return &p.Notification }
func (p *MovePayload) rest() *Rest           { return &p.Rest }

// Common returns what all notifications have.
func (p *ModerationPayload) Common() *Notification { return &p.Notification }
func (p *ModerationPayload) rest() *Rest           { return &p.Rest }

// Common returns what all notifications have.
func (p *InfoPayload) Common() *Notification { return &p.Notification }
func (p *InfoPayload) rest() *Rest           { return &p.Rest }

// Common returns what all notifications have.
func (p *ExplodePayload) Common() *Notification { return &p.Notification }
func (p *ExplodePayload) rest() *Rest           { return &p.Rest }

// Common returns what all notifications have.
func (p *SpritePayload) Common() *Notification { return &p.Notification }
func (p *SpritePayload) rest() *Rest           { return &p.Rest }

// Common returns what all notifications have.
func (p *MultiPayload) Common() *Notification { return &p.Notification }
func (p *MultiPayload) rest() *Rest           { return &p.Rest }

// Common returns what all notifications have.
func (p *CreateFolderPayload) Common() *Notification { return &p.Notification }
func (p *CreateFolderPayload) rest() *Rest           { return &p.Rest }

// Common returns what all notifications have.
func (p *DeleteFolderPayload) Common() *Notification { return &p.Notification }
func (p *DeleteFolderPayload) rest() *Rest           { return &p.Rest }

// Common returns what all notifications have.
func (p *MoveOrRenameAssetFolderPayload) Common() *Notification { return &p.Notification }
func (p *MoveOrRenameAssetFolderPayload) rest() *Rest           { return &p.Rest }

// Common returns what all notifications have.
func (p *ResourceTagsChangedPayload) Common() *Notification { return &p.Notification }
func (p *ResourceTagsChangedPayload) rest() *Rest           { return &p.Rest }

// Common returns what all notifications have.
func (p *ResourceContextChangedPayload) Common() *Notification { return &p.Notification }
func (p *ResourceContextChangedPayload) rest() *Rest           { return &p.Rest }

// Common returns what all notifications have.
func (p *ResourceMetadataChangedPayload) Common() *Notification { return &p.Notification }
func (p *ResourceMetadataChangedPayload) rest() *Rest           { return &p.Rest }

// Common returns what all notifications have.
func (p *ResourceDisplayNameChangedPayload) Common() *Notification { return &p.Notification }
func (p *ResourceDisplayNameChangedPayload) rest() *Rest           { return &p.Rest }

// Common returns what all notifications have.
func (p *AccessControlChangedPayload) Common() *Notification { return &p.Notification }
func (p *AccessControlChangedPayload) rest() *Rest           { return &p.Rest }

// Common returns what all notifications have.
func (p *RelatedAssetsPayload) Common() *Notification { return &p.Notification }
func (p *RelatedAssetsPayload) rest() *Rest           { return &p.Rest }

// Common returns what all notifications have.
func (p *ProofStatusChangedPayload) Common() *Notification { return &p.Notification }
func (p *ProofStatusChangedPayload) rest() *Rest           { return &p.Rest }

// shapes decode the members that come in more than one shape to one Go type.
var shapes = json.JoinUnmarshalers(
	json.UnmarshalFromFunc(unmarshalInt),
	json.UnmarshalFromFunc(unmarshalFloat),
	json.UnmarshalFromFunc(unmarshalError),
	json.UnmarshalFromFunc(unmarshalShare),
	json.UnmarshalFromFunc(unmarshalRectangle),
	json.UnmarshalFromFunc(unmarshalContext),
	json.UnmarshalFromFunc(unmarshalKeyed[Resource]),
	json.UnmarshalFromFunc(unmarshalKeyed[MovedResource]),
	json.UnmarshalFromFunc(unmarshalKeyed[TagsChange]),
	json.UnmarshalFromFunc(unmarshalKeyed[ContextChange]),
	json.UnmarshalFromFunc(unmarshalKeyed[MetadataChange]),
	json.UnmarshalFromFunc(unmarshalKeyed[DisplayNameChange]),
	json.UnmarshalFromFunc(unmarshalKeyed[AccessControlChange]),
	json.UnmarshalFromFunc(unmarshalKeyed[ImageInfo]),
)

// errShape reports a value that fits no shape; decode turns it into a mismatch.
var errShape = errors.New("cloudinaryhook: unexpected shape")

// keyed is an element of a list that may come as an object by key.
type keyed interface{ setKey(key string) }

func unmarshalInt(dec *jsontext.Decoder, n *int64) error {
	value, err := dec.ReadValue()
	if err != nil {
		return err
	}
	var ok bool
	if *n, ok = parseInt(value); !ok && value.Kind() != 'n' {
		return errShape
	}
	return nil
}

func unmarshalFloat(dec *jsontext.Decoder, n *float64) error {
	value, err := dec.ReadValue()
	if err != nil {
		return err
	}
	if value.Kind() == '"' {
		value = unquote(value)
		if value.Kind() != '0' {
			return errShape
		}
	}
	return json.Unmarshal(value, n)
}

func unmarshalError(dec *jsontext.Decoder, e *NotificationError) error {
	if dec.PeekKind() == '"' {
		return json.UnmarshalDecode(dec, &e.Message)
	}
	type object NotificationError // without this function
	return json.UnmarshalDecode(dec, (*object)(e))
}

func unmarshalShare(dec *jsontext.Decoder, s *NamedShare) error {
	if open, err := dec.ReadToken(); err != nil || open.Kind() != '[' {
		return errShape
	}
	if err := json.UnmarshalDecode(dec, &s.Name); err != nil {
		return err
	}
	if err := json.UnmarshalDecode(dec, &s.Percent); err != nil {
		return err
	}
	if end, err := dec.ReadToken(); err != nil || end.Kind() != ']' {
		return errShape
	}
	return nil
}

func unmarshalRectangle(dec *jsontext.Decoder, r *Rectangle) error {
	var list []float64
	if err := json.UnmarshalDecode(dec, &list); err != nil {
		return err
	}
	if len(list) != 4 {
		return errShape
	}
	*r = Rectangle{list[0], list[1], list[2], list[3]}
	return nil
}

func unmarshalContext(dec *jsontext.Decoder, c *Context) error {
	*c = nil
	switch dec.PeekKind() {
	case '[':
		var pairs []struct {
			Key   string `json:"key"`
			Value string `json:"value"`
		}
		if err := json.UnmarshalDecode(dec, &pairs); err != nil {
			return err
		}
		*c = make(Context, len(pairs))
		for _, pair := range pairs {
			(*c)[pair.Key] = pair.Value
		}
		return nil
	case '{':
		value, err := dec.ReadValue()
		if err != nil {
			return err
		}
		*c = make(Context)
		return c.add(value)
	}
	return json.UnmarshalDecode(dec, (*map[string]string)(c))
}

func (c Context) add(object jsontext.Value) error {
	for name, value := range members(object) {
		var text string
		var err error
		if name == "custom" && value.Kind() == '{' {
			err = c.add(value)
		} else if err = json.Unmarshal(value, &text, jsonOptions); err == nil {
			c[name] = text
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func unmarshalKeyed[T any](dec *jsontext.Decoder, list *[]T) error {
	open, err := dec.ReadToken()
	if err != nil || open.Kind() == 'n' {
		*list = nil
		return err
	}
	if open.Kind() != '[' && open.Kind() != '{' {
		return errShape
	}
	*list = []T{}
	for kind := dec.PeekKind(); kind != ']' && kind != '}'; kind = dec.PeekKind() {
		var key string
		if open.Kind() == '{' {
			if err := json.UnmarshalDecode(dec, &key); err != nil {
				return err
			}
		}
		var element T
		if err := json.UnmarshalDecode(dec, &element); err != nil {
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
