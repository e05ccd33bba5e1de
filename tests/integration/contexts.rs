//! Contexts: the exact slice of text of each record, and whether its first token is a BOS.

use crate::util::{fixture, tests_path};
use saescope::dashboard::ExampleOptions;
use saescope::extract::{Bos, ExtractOptions, LongDocuments, Packing, read_records_of};
use saescope::{
    FeatureRecord, Model, Progress, Result, Sae, create_feature_dataset, feature_density,
    max_activating_examples, read_records,
};
use serde_json::{Value, json};
use std::path::Path;

/// A folder with a tiny model, a tokenizer of one kind (see `fixtures/tokenizers/files`), and documents.
struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new(kind: &str, settings: Value, texts: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for name in ["config.json", "model.safetensors"] {
            std::fs::copy(fixture(&format!("models/tiny/{name}")), path(name)).unwrap();
        }
        let tokenizer = tests_path("fixtures/tokenizers/files").join(format!("{kind}.json"));
        std::fs::copy(tokenizer, path("tokenizer.json")).unwrap();
        std::fs::write(path("tokenizer_config.json"), settings.to_string()).unwrap();
        let lines: String = texts.iter().map(|text| json!({ "text": text }).to_string() + "\n").collect();
        std::fs::write(path("docs.jsonl"), lines).unwrap();
        Place { folder }
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_string_lossy().into_owned()
    }

    fn model(&self) -> Model {
        Model::load(&self.folder.path().to_string_lossy()).unwrap()
    }

    fn records(&self, change: impl FnOnce(&mut ExtractOptions)) -> Vec<FeatureRecord> {
        let mut options = ExtractOptions {
            dataset_path: self.path("docs.jsonl"),
            output_path: self.path("out.jsonl"),
            ..Default::default()
        };
        change(&mut options);
        create_feature_dataset(&self.model(), &sae(), None, &options, &Progress::default()).unwrap();
        read_records(Path::new(&options.output_path)).unwrap().collect::<Result<_>>().unwrap()
    }
}

fn sae() -> Sae {
    Sae::load(&fixture("models/tiny/sae")).unwrap()
}

const AWKWARD: [&str; 6] = [
    "the old mill has no wheel and the boat on the lake is small",
    "  two  spaces   between the   words  ",
    "a\tb\n\nc \n d ",
    "naïve café, 你好 the 🙂🙂 boat",
    "🙂🙂🙂",
    " ",
];

/// The slices of a split document add up to it at every context size, whatever the tokenizer's offsets leave out.
#[test]
fn slices_add_up_to_their_document() {
    let plain = json!({ "tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<|endoftext|>" });
    let llama = json!({ "tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>" });
    for (kind, settings) in
        [("gpt2", &plain), ("neox", &plain), ("qwen", &plain), ("llama2", &llama), ("llama2_new", &llama)]
    {
        for text in AWKWARD {
            let place = Place::new(kind, settings.clone(), &[text]);
            let (model, ids) = (place.model(), place.model().to_tokens(text, Some(false)).unwrap());
            for context_size in 2..8 {
                let records = place.records(|options| options.context_size = Some(context_size));
                let slices: Vec<&str> = records.iter().map(|record| record.text.as_str()).collect();
                assert_eq!(slices.concat(), text, "{kind}, {context_size}: {slices:?}");
                let tokens: Vec<u32> =
                    records.iter().flat_map(|record| &record.tokens[1..]).copied().collect();
                assert_eq!(tokens, ids, "{kind}, {context_size}");
                for record in &records {
                    assert_eq!(record.bos, Bos::Present);
                    assert!(record.offsets.is_sorted(), "{kind}: {record:?}");
                    assert!(record.offsets.iter().all(|offset| *offset <= record.text.chars().count()));
                    // A slice of complete characters encodes to the same byte-level tokens again.
                    let again = model.to_tokens(&record.text, Some(true)).unwrap();
                    let is_complete = text.is_ascii() && !text.contains("  ") && !text.contains('\n');
                    if is_complete && (kind == "gpt2" || kind == "neox") {
                        assert_eq!(again, record.tokens, "{kind}, {context_size}: {:?}", record.text);
                    }
                }
            }
            let first = place.records(|options| {
                options.context_size = Some(3);
                options.long_documents = LongDocuments::Truncate;
            });
            assert!(first.len() == 1 && text.starts_with(&first[0].text));
        }
        // Concatenated documents: the text of the contexts is a prefix of theirs.
        let place = Place::new(kind, settings.clone(), &AWKWARD);
        let records = place.records(|options| {
            options.context_size = Some(5);
            options.packing = Packing::Concatenate;
        });
        let text: String = records.iter().map(|record| record.text.as_str()).collect();
        assert!(AWKWARD.concat().starts_with(&text) && text.len() > 100, "{kind}: {text:?}");
    }
}

/// Each token starts in its slice where the tokenizer says.
#[test]
fn offsets_skip_the_space_before_a_word() {
    let settings = json!({ "tokenizer_class": "GPTNeoXTokenizerFast", "bos_token": "<|endoftext|>" });
    let place = Place::new("neox", settings, &["the old mill has no wheel"]);
    let records = place.records(|options| options.context_size = Some(4));
    let texts: Vec<&str> = records.iter().map(|record| record.text.as_str()).collect();
    assert_eq!(texts.concat(), "the old mill has no wheel");
    for record in &records {
        let starts: Vec<char> =
            record.offsets[1..].iter().filter_map(|at| record.text.chars().nth(*at)).collect();
        assert!(!starts.contains(&' '), "{record:?}");
    }
}

/// Text that begins with the BOS, as chat templates write it, gets no second one; its contexts are as long as others.
#[test]
fn a_document_with_its_own_bos_gets_no_second_one() {
    let settings = json!({ "tokenizer_class": "GPT2Tokenizer" });
    let texts =
        ["<|endoftext|>the boat", "the boat", "<|endoftext|>", "<|endoftext|>the old mill has no wheel"];
    let place = Place::new("gpt2", settings.clone(), &texts);
    let boat = place.model().to_tokens("the boat", Some(true)).unwrap();
    let records = place.records(|_| ());
    assert_eq!([&records[0].tokens, &records[1].tokens], [&boat, &boat]);
    assert_eq!((records[0].text.as_str(), records[0].offsets[1]), (texts[0], 13));
    assert_eq!((records[2].tokens.as_slice(), records[2].text.as_str()), (&[0][..], texts[2]));
    assert!(records.iter().all(|record| record.bos == Bos::Present));
    // If the text is split, the later parts get a BOS too, and each part fills a context.
    let records = place.records(|options| options.context_size = Some(4));
    let long: Vec<_> = records.iter().skip_while(|record| !record.text.contains("the old")).collect();
    assert_eq!(long[0].tokens.len(), 4);
    assert!(long.iter().all(|record| record.tokens[0] == 0 && record.tokens[1] != 0));
    assert_eq!(long.iter().map(|record| record.text.as_str()).collect::<String>(), texts[3]);
    // Without `prepend_bos`, the text's own BOS still counts as one.
    let records = place.records(|options| options.prepend_bos = Some(false));
    let present: Vec<bool> = records.iter().map(FeatureRecord::begins_with_bos).collect();
    assert_eq!(present, [true, false, true, true]);
    // The same in contexts of several documents.
    let records = place.records(|options| {
        options.context_size = Some(6);
        options.packing = Packing::Concatenate;
    });
    assert!(records.iter().all(|record| record.tokens[..2] != [0, 0] && record.tokens[0] == 0));
}

/// Whether a first token is a BOS depends on the metadata of the run, not on how the texts begin: a token that is only
/// a part of a character is not a BOS.
#[test]
fn a_first_token_is_a_bos_if_the_run_says_so() {
    let settings = json!({ "tokenizer_class": "GPT2Tokenizer" });
    let texts = ["🙂 the boat", "🙂 a mill", "你好", "the lake"];
    let place = Place::new("gpt2", settings, &texts);
    let (run, sae) = (Progress::default(), sae());
    let out = place.path("out.jsonl");
    let counted = |records: saescope::extract::RecordReader| {
        let density = feature_density(records, 16, &run).unwrap();
        (density.tokens as usize, density.note)
    };
    for prepend_bos in [false, true] {
        let records = place.records(|options| {
            options.prepend_bos = Some(prepend_bos);
            options.context_size = Some(7);
        });
        let all: usize = records.iter().map(|record| record.tokens.len()).sum();
        let right = if prepend_bos { all - records.len() } else { all };
        assert_eq!(counted(read_records(Path::new(&out)).unwrap()), (right, None));
        let examples = max_activating_examples(
            read_records(Path::new(&out)).unwrap(),
            3,
            &ExampleOptions::default(),
            &run,
        );
        assert_eq!(examples.unwrap().tokens as usize, right);
        // The metadata of an earlier version lacks the id of the BOS.
        let meta = place.path("out.jsonl.meta.json");
        let mut old: Value = serde_json::from_str(&std::fs::read_to_string(&meta).unwrap()).unwrap();
        old.as_object_mut().unwrap().remove("bos_token_id");
        std::fs::write(&meta, old.to_string()).unwrap();
        assert_eq!(counted(read_records(Path::new(&out)).unwrap()), (right, None));
        // Without metadata, the name of the model or the records themselves decide, and the counts have a note.
        std::fs::remove_file(&meta).unwrap();
        let (tokens, note) = counted(read_records(Path::new(&out)).unwrap());
        assert_eq!(tokens, right, "prepend_bos {prepend_bos}");
        let said = if prepend_bos { "was left out" } else { "was counted" };
        assert!(note.as_ref().is_some_and(|note| note.contains(said)), "{note:?}");
        let (tokens, note) = counted(read_records_of(Path::new(&out), Some("pythia-70m")).unwrap());
        assert_eq!(tokens, right);
        assert!(note.is_some());
        let (tokens, _) = counted(read_records_of(Path::new(&out), Some("gpt2-small")).unwrap());
        assert_eq!(tokens, all, "GPT-2's BOS is another token");
    }
    assert_eq!(sae.cfg().d_sae, 16);
}
