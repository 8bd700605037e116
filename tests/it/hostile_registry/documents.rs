//! Manifests and configs that are no documents, or other ones than they say.

use serde_json::{Value, json};

use super::make::{
    CONFIG, INDEX, LAYER, MANIFEST, NOBODYS, config, config_bytes, config_rewritten, deep, deep_objects,
    honest_config, manifest, manifest_rewritten, manifest_text,
};
use super::row::{Row, refused, row, tolerated};
use super::server::Script;
use crate::support::{Built, image};

pub(super) fn rows() -> Vec<Row> {
    let mut rows = no_documents();
    rows.extend(changed_manifests());
    rows.extend(rewritten_manifests());
    rows.extend(types());
    rows.extend(configs());
    rows.extend(odd_and_taken());
    rows
}

/// Bytes that are no manifest.
fn no_documents() -> Vec<Row> {
    let wide =
        |text: &str, order: fn(u16) -> [u8; 2]| text.encode_utf16().flat_map(order).collect::<Vec<u8>>();
    let honest = String::from_utf8(manifest(|_| ()).document.to_vec()).unwrap();
    let mark = |bytes: Vec<u8>, mark: &[u8]| [mark, &bytes].concat();
    let documents: Vec<(&str, Vec<u8>)> = vec![
        ("an empty manifest", vec![]),
        ("a manifest of white space", b" \n\t ".to_vec()),
        ("a manifest that is null", b"null".to_vec()),
        ("a manifest that is a number", b"2".to_vec()),
        ("a manifest that is text", b"\"manifest\"".to_vec()),
        ("a manifest that is a list", b"[]".to_vec()),
        ("a manifest that is an empty object", b"{}".to_vec()),
        ("a manifest that is a web page", b"<!DOCTYPE html><html><body>log in</body></html>".to_vec()),
        ("a manifest that is YAML", b"schemaVersion: 2\nlayers: []\n".to_vec()),
        ("a manifest of NUL bytes", vec![0; 1000]),
        ("a manifest that is an ELF program", b"\x7fELF\x02\x01\x01\0\0\0\0".to_vec()),
        ("a manifest that is a gzip member", crate::support::Compression::Gzip.encode(honest.as_bytes())),
        ("a manifest with a byte order mark", mark(honest.clone().into_bytes(), b"\xef\xbb\xbf")),
        ("a manifest in UTF-16, little end first", mark(wide(&honest, u16::to_le_bytes), b"\xff\xfe")),
        ("a manifest in UTF-16, big end first", mark(wide(&honest, u16::to_be_bytes), b"\xfe\xff")),
        ("a manifest that begins deep", deep(100_000).into_bytes()),
        ("a manifest that is deep and does not end", "[".repeat(1_000_000).into_bytes()),
        ("a manifest that is cut", honest.as_bytes()[..honest.len() - 2].to_vec()),
        ("a manifest with a number before it", mark(honest.clone().into_bytes(), b"1 ")),
        ("two manifests in one document", [honest.as_bytes(), honest.as_bytes()].concat()),
        ("a manifest with text after it", [honest.as_bytes(), b" and more"].concat()),
        ("a manifest with a NUL after it", [honest.as_bytes(), b"\0"].concat()),
        ("a manifest with a comment", honest.replacen('{', "{/* here */", 1).into_bytes()),
        ("a manifest with a comma too many", honest.replacen('{', "{,", 1).into_bytes()),
        ("a manifest in single quotes", honest.replace('"', "'").into_bytes()),
    ];
    documents
        .into_iter()
        .map(|(name, bytes)| refused(name, move |_| Script::document(manifest_text(bytes.clone()))))
        .collect()
}

type Change = fn(&mut Value);

/// Manifests in JSON whose fields do not hold what they must.
fn changed_manifests() -> Vec<Row> {
    let null_in_layers: Change = |m| m["layers"] = json!([null]);
    let changes: Vec<(&str, Change)> = vec![
        ("a config that is null", |m| m["config"] = Value::Null),
        ("a config that is absent", |m| drop(m.as_object_mut().unwrap().remove("config"))),
        ("a config that is text", |m| m["config"] = NOBODYS.into()),
        ("a config that is a list", |m| m["config"] = json!([m["config"].clone()])),
        ("a config that is an empty object", |m| m["config"] = json!({})),
        ("layers that are an object", |m| m["layers"] = json!({ "0": m["layers"][0].clone() })),
        ("layers that are text", |m| m["layers"] = "none".into()),
        ("a layer that is null", null_in_layers),
        ("a layer that is a number", |m| m["layers"][1] = 7.into()),
        ("a layer that is a list of layers", |m| m["layers"][1] = m["layers"].clone()),
        ("a layer without a size", |m| drop(m["layers"][0].as_object_mut().unwrap().remove("size"))),
        ("a layer whose size is null", |m| m["layers"][0]["size"] = Value::Null),
        ("a schemaVersion of 1", |m| m["schemaVersion"] = 1.into()),
        ("a schemaVersion of 3", |m| m["schemaVersion"] = 3.into()),
        ("a schemaVersion of minus 2", |m| m["schemaVersion"] = (-2).into()),
        ("a schemaVersion of 2.0", |m| m["schemaVersion"] = json!(2.0)),
        ("a schemaVersion of text", |m| m["schemaVersion"] = "2".into()),
        ("a schemaVersion in a list", |m| m["schemaVersion"] = json!([2])),
        ("an image that lists manifests", |m| m["manifests"] = json!([])),
        ("an image with the layers of schema 1", |m| m["fsLayers"] = json!([{ "blobSum": NOBODYS }])),
        ("an image with the history of schema 1", |m| m["history"] = json!([{ "v1Compatibility": "{}" }])),
        ("a mediaType that is a number", |m| m["mediaType"] = 2.into()),
        ("a mediaType of nothing known", |m| m["mediaType"] = "application/x-sh".into()),
        ("a layer's mediaType that is a list", |m| m["layers"][0]["mediaType"] = json!([LAYER])),
        ("annotations that are a list", |m| m["annotations"] = json!(["a"])),
        ("an annotation that is an object", |m| m["annotations"] = json!({ "a": { "b": "c" } })),
        ("a subject that is text", |m| m["subject"] = NOBODYS.into()),
        ("a subject that says nothing", |m| m["subject"] = json!({})),
        ("an artifactType that is an object", |m| m["artifactType"] = json!({})),
        ("urls that are text", |m| m["layers"][0]["urls"] = "https://x.example/".into()),
        ("a config's data that is a number", |m| m["config"]["data"] = 7.into()),
        ("a platform that is text", |m| m["config"]["platform"] = "linux/amd64".into()),
    ];
    let document = |(name, change): (&str, Change)| {
        refused(format!("a manifest with {name}"), move |_| Script::document(manifest(change)))
    };
    changes.into_iter().map(document).collect()
}

type Rewrite = fn(&str) -> Vec<u8>;

/// What JSON lets pass and two readers read differently.
fn rewritten_manifests() -> Vec<Row> {
    let changes: Vec<(&str, Rewrite)> = vec![
        ("layers twice", |m| m.replacen('{', r#"{"layers":[],"#, 1).into_bytes()),
        ("config twice", |m| m.replacen('{', r#"{"config":null,"#, 1).into_bytes()),
        ("mediaType twice", |m| m.replacen('{', r#"{"mediaType":"","#, 1).into_bytes()),
        ("an unknown key twice", |m| m.replacen('{', r#"{"x":1,"x":2,"#, 1).into_bytes()),
        ("layers by another case", |m| m.replacen('{', r#"{"Layers":[],"#, 1).into_bytes()),
        ("layers with a long s", |m| m.replacen('{', "{\"layer\u{17f}\":[],", 1).into_bytes()),
        ("manifests by another case", |m| m.replacen('{', r#"{"MANIFESTS":[],"#, 1).into_bytes()),
        ("layers in escapes beside layers", |m| m.replacen('{', r#"{"\u006cayers":[],"#, 1).into_bytes()),
        ("a digest twice", |m| {
            m.replacen(r#""digest":"#, r#""digest":"sha256:0","digest":"#, 1).into_bytes()
        }),
        ("a size by another case", |m| m.replacen(r#""size":"#, r#""SIZE":1,"size":"#, 1).into_bytes()),
        ("bytes that are not UTF-8", |m| {
            m.replacen('{', "{\"x\":\"?\",", 1)
                .bytes()
                .map(|byte| if byte == b'?' { 0xff } else { byte })
                .collect()
        }),
        ("an overlong NUL", |m| [b"{\"x\":\"\xc0\x80\",", &m.as_bytes()[1..]].concat()),
        ("half of a surrogate pair as bytes", |m| [b"{\"x\":\"\xed\xa0\x80\",", &m.as_bytes()[1..]].concat()),
        ("a raw line feed in a text", |m| m.replacen('{', "{\"x\":\"a\nb\",", 1).into_bytes()),
        ("a raw NUL in a text", |m| m.replacen('{', "{\"x\":\"a\0b\",", 1).into_bytes()),
        ("not a number", |m| m.replacen('{', r#"{"x":NaN,"#, 1).into_bytes()),
        ("a number with a zero in front", |m| m.replacen(r#""size": "#, r#""size": 0"#, 1).into_bytes()),
        ("a number in hexadecimal", |m| m.replacen('{', r#"{"x":0x10,"#, 1).into_bytes()),
    ];
    let document = |(name, change): (&str, Rewrite)| {
        refused(format!("a manifest with {name}"), move |_| Script::document(manifest_rewritten(change)))
    };
    changes.into_iter().map(document).collect()
}

/// Documents that are served as what they are not.
fn types() -> Vec<Row> {
    let served = |name: &'static str, media_type: &'static str, content: fn() -> Built| {
        refused(name, move |_| Script::document(Built { media_type: media_type.into(), ..content() }))
    };
    let list = || Built::from(crate::support::index().manifest(image().layer("x"), "linux/amd64"));
    let untyped = || manifest(|m| drop(m.as_object_mut().unwrap().remove("mediaType")));
    vec![
        served("an image that is served as an index", INDEX, || image().layer("x").into()),
        served("an index that is served as an image", MANIFEST, list),
        served("an untyped image that is served as an index", INDEX, untyped),
        served(
            "an untyped image that is served as a Docker list",
            "application/vnd.docker.distribution.manifest.list.v2+json",
            untyped,
        ),
        served(
            "an image that is served as schema 1",
            "application/vnd.docker.distribution.manifest.v1+prettyjws",
            untyped,
        ),
        served(
            "an image that is served as Docker's",
            "application/vnd.docker.distribution.manifest.v2+json",
            || image().layer("x").into(),
        ),
        served("an image that is served as a config", CONFIG, || image().layer("x").into()),
        served("an image that is served as a layer", LAYER, || image().layer("x").into()),
        served("an image that is served as a web page", "text/html", || image().layer("x").into()),
        served("an image that is served as a picture", "image/png", || image().layer("x").into()),
    ]
}

/// Configs of images that cannot be held against.
fn configs() -> Vec<Row> {
    let honest = honest_config().to_string();
    let bytes: Vec<(&str, Vec<u8>)> = vec![
        ("that is empty", vec![]),
        ("that is null", b"null".to_vec()),
        ("that is a list", b"[]".to_vec()),
        ("that is an empty object", b"{}".to_vec()),
        ("that begins deep", deep(100_000).into_bytes()),
        ("of binary", b"\x7fELF\x01\0\xff\xfe".to_vec()),
        ("with text after it", format!("{honest} x").into_bytes()),
        ("with a byte order mark", format!("\u{feff}{honest}").into_bytes()),
        ("in UTF-16", honest.encode_utf16().flat_map(u16::to_le_bytes).collect()),
    ];
    let mut rows: Vec<_> = bytes
        .into_iter()
        .map(|(name, bytes)| config_row(name, 6, move || config_bytes(bytes.clone())))
        .collect();
    let counts: Vec<(&str, Change)> = vec![
        ("whose diff IDs are null", |c| c["rootfs"]["diff_ids"] = Value::Null),
        ("that has no diff IDs", |c| c["rootfs"]["diff_ids"] = json!([])),
        ("that has one diff ID of two", |c| drop(c["rootfs"]["diff_ids"].as_array_mut().unwrap().pop())),
        ("that has a diff ID too many", |c| {
            c["rootfs"]["diff_ids"].as_array_mut().unwrap().push(NOBODYS.into());
        }),
        ("that has 30,000 diff IDs", |c| c["rootfs"]["diff_ids"] = json!(vec![NOBODYS; 30_000])),
    ];
    // What it claims is shown for what it is.
    rows.extend(counts.into_iter().map(|(name, change)| config_row(name, 0, move || config(change))));
    let changes: Vec<(&str, Change)> = vec![
        ("whose diff IDs are an object", |c| c["rootfs"]["diff_ids"] = json!({})),
        ("whose diff ID is a number", |c| c["rootfs"]["diff_ids"][0] = 1.into()),
        ("whose diff ID is null", |c| c["rootfs"]["diff_ids"][0] = Value::Null),
        ("whose rootfs is null", |c| c["rootfs"] = Value::Null),
        ("whose rootfs is text", |c| c["rootfs"] = "layers".into()),
        ("whose os is a number", |c| c["os"] = 1.into()),
        ("whose architecture is an object", |c| c["architecture"] = json!({})),
        ("whose os.features are text", |c| c["os.features"] = "win32k".into()),
    ];
    rows.extend(changes.into_iter().map(|(name, change)| config_row(name, 6, move || config(change))));
    rows
}

/// A config that a fetch has to refuse, and of which `inspect` may show what there is.
fn config_row(name: &str, inspected: i32, content: impl Fn() -> Built + Send + Sync + 'static) -> Row {
    let runs = [
        ("fetch -v REF HELD", 6),
        ("fetch --json --progress json REF OUT", 6),
        ("inspect REF", inspected),
        ("inspect --json REF", inspected),
    ];
    let row = row(format!("a config {name}"), &runs, move |_| {
        let content = content();
        let blob = content.config.clone().expect("an image has a config");
        let reply = super::server::Reply::ok("application/octet-stream", blob.bytes);
        Script::of(content).hostile(format!("/v2/app/blobs/{}", blob.digest), reply)
    });
    row.says_at_most(6 << 20)
}

/// What looks bad and is an image for every tool: it has to be taken whole.
#[expect(clippy::too_many_lines, reason = "it is a table, and each row is short")]
fn odd_and_taken() -> Vec<Row> {
    let with = |insert: String| move |m: &str| m.replacen('{', &format!("{{{insert},"), 1).into_bytes();
    let deep_field = with(format!(r#""x":{}"#, deep(100_000)));
    let deep_object = with(format!(r#""x":{}"#, deep_objects(100_000)));
    let config_deep = with(format!(r#""x":{}"#, deep_objects(100_000)));
    let annotations = |count: usize, size: usize| {
        move |m: &mut Value| {
            let entry = |at: usize| (format!("key.{at}"), "x".repeat(size).into());
            m["annotations"] = Value::Object((0..count).map(entry).collect());
        }
    };
    let escapes = with(r#""x":"\u0000\u001b[2J\ud800\uffff","\ud800":1"#.to_owned());
    let of = |name: &str, content: Box<dyn Fn() -> Built + Send + Sync>| {
        tolerated(name, move |_| Script::document(content()))
    };
    let of_two = |name: &str, content: fn() -> Built| {
        row(name, &[("fetch -v REF HELD", 0), ("inspect REF", 0)], move |_| Script::document(content()))
    };
    vec![
        of("a field of 100,000 lists", Box::new(move || manifest_rewritten(&deep_field))).not_walked(),
        of("a field of 100,000 objects", Box::new(move || manifest_rewritten(&deep_object))).not_walked(),
        of("a config with a field of 100,000 objects", Box::new(move || config_rewritten(&config_deep)))
            .not_walked(),
        row(
            "a config with tabs and carriage returns",
            &[("inspect --json REF", 0), ("inspect REF", 0)],
            |_| Script::document(config_rewritten(|c| c.replace(',', ",\t\r\n").into_bytes())),
        ),
        of(
            "a layer's data that is no base64",
            Box::new(|| manifest(|m| m["layers"][0]["data"] = "***".into())),
        ),
        of_two("a config with 800,000 steps", || {
            config_rewritten(|c| {
                c.replacen('{', &format!(r#"{{"history":[{}{{}}],"#, "{},".repeat(800_000)), 1).into_bytes()
            })
        })
        .says_at_most(128 << 10),
        of_two("a config with 2,000,000 numbers", || {
            config_rewritten(|c| {
                c.replacen('{', &format!(r#"{{"x":[{}0],"#, "0,".repeat(2_000_000)), 1).into_bytes()
            })
        }),
        of_two("a layer with 300,000 urls", || {
            manifest_rewritten(|m| {
                m.replacen(r#""size":"#, &format!(r#""urls":[{}""],"size":"#, r#""","#.repeat(300_000)), 1)
                    .into_bytes()
            })
        }),
        of_two("a manifest with 60,000 keys", || {
            let keys = (0..60_000).fold(String::new(), |keys, at| keys + &format!("\"{at:x}\":0,"));
            manifest_rewritten(|m| m.replacen('{', &format!("{{{keys}"), 1).into_bytes())
        }),
        of("an annotation of a megabyte", Box::new(move || manifest(annotations(1, 1 << 20)))),
        of("20,000 annotations", Box::new(move || manifest(annotations(20_000, 10)))).says_at_most(4 << 20),
        of("an unknown field of escapes", Box::new(move || manifest_rewritten(&escapes))).not_walked(),
        of(
            "null where a field may be absent",
            Box::new(|| {
                manifest(|m| {
                    for key in ["annotations", "subject", "artifactType"] {
                        m[key] = Value::Null;
                    }
                    for key in ["annotations", "urls", "data", "platform"] {
                        m["layers"][0][key] = Value::Null;
                    }
                })
            }),
        ),
        of(
            "a config whose history is no history",
            Box::new(|| config(|c| c["history"] = json!([1, null, "x"]))),
        ),
        of(
            "a config that is not all UTF-8",
            Box::new(|| config_rewritten(|c| [b"{\"x\":\"\xff\xfe\",", &c.as_bytes()[1..]].concat())),
        )
        .not_walked(),
    ]
}
