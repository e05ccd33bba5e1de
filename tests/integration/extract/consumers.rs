//! Consumers of a pass over a dataset: what they see, in which order, and what their errors do.

use super::{demo, documents, path};
use saescope::extract::{Consumer, Context, ExtractOptions, VisitSummary};
use saescope::sae::FeatureActs;
use saescope::{
    Error, FeatureRecord, Progress, Result, create_feature_dataset, read_records, visit_feature_acts,
};
use std::path::Path;

/// Keeps the documents and records of all contexts.
struct Records;

impl Consumer for Records {
    type Part = Vec<(u64, FeatureRecord)>;
    type State = Vec<(u64, FeatureRecord)>;

    fn reduce(&self, contexts: &[Context], acts: &FeatureActs) -> Result<Self::Part> {
        let rows: Vec<usize> = contexts.iter().flat_map(Context::rows).collect();
        assert_eq!(rows, (0..acts.len()).collect::<Vec<_>>(), "a row for each token");
        Ok(contexts.iter().map(|context| (context.document, FeatureRecord::new(context, acts))).collect())
    }

    fn fold(&self, records: &mut Self::State, part: Self::Part) -> Result<()> {
        records.extend(part);
        Ok(())
    }
}

/// Adds up the activations of each feature, without BOS tokens.
struct Sums;

impl Consumer for Sums {
    type Part = Vec<(u32, f32)>;
    type State = Vec<f64>;

    fn reduce(&self, contexts: &[Context], acts: &FeatureActs) -> Result<Self::Part> {
        let rows = contexts.iter().flat_map(Context::rows_after_bos);
        let row = |row| acts.at(row).0.iter().copied().zip(acts.at(row).1.iter().copied());
        Ok(rows.flat_map(row).collect())
    }

    fn fold(&self, sums: &mut Vec<f64>, part: Self::Part) -> Result<()> {
        part.into_iter().for_each(|(feature, value)| sums[feature as usize] += f64::from(value));
        Ok(())
    }
}

/// Fails in one of its steps at a document; keeps the documents folded before.
struct Failing {
    in_fold: bool,
    document: u64,
}

impl Failing {
    fn check(&self, in_fold: bool, documents: &[u64]) -> Result<()> {
        let fails = self.in_fold == in_fold && documents.contains(&self.document);
        let step = if in_fold { "fold" } else { "reduce" };
        if fails { Err(Error::invalid(format!("the {step} of a test"), "no document 7", 7)) } else { Ok(()) }
    }
}

impl Consumer for Failing {
    type Part = Vec<u64>;
    type State = Vec<u64>;

    fn reduce(&self, contexts: &[Context], _: &FeatureActs) -> Result<Vec<u64>> {
        let documents: Vec<u64> = contexts.iter().map(|context| context.document).collect();
        self.check(false, &documents).map(|()| documents)
    }

    fn fold(&self, folded: &mut Vec<u64>, documents: Vec<u64>) -> Result<()> {
        self.check(true, &documents)?;
        folded.extend(documents);
        Ok(())
    }
}

/// Long, short, single-token and empty documents, more than one batch of them.
fn mixed() -> tempfile::NamedTempFile {
    let long = "the boat on the lake is small ".repeat(40);
    documents(&["a", "the old mill", "", &long, "two dogs", "of"].repeat(8))
}

fn visit<C: Consumer>(
    documents: &str,
    batch_size: usize,
    consumer: &C,
    state: &mut C::State,
) -> Result<VisitSummary> {
    let (model, sae) = demo();
    let dataset_path = documents.to_owned();
    let options = ExtractOptions { dataset_path, batch_size, prepend_bos: Some(true), ..Default::default() };
    visit_feature_acts(&model, &sae, None, &options, consumer, state, &Progress::default())
}

#[test]
fn several_consumers_share_a_pass() {
    let file = mixed();
    let d_sae = demo().1.cfg().d_sae;
    let (mut records, mut sums) = (Vec::new(), vec![0.0; d_sae]);
    let read = visit(&path(&file), 64, &Records, &mut records).unwrap();
    assert_eq!(visit(&path(&file), 64, &Sums, &mut sums).unwrap(), read);
    let mut both = (Vec::new(), (vec![0.0; d_sae], Vec::new()));
    assert_eq!(visit(&path(&file), 64, &(Records, (Sums, Records)), &mut both).unwrap(), read);
    assert!(sums.iter().any(|sum| *sum > 0.0));
    assert!(both == (records.clone(), (sums, records)));
}

/// Also for several threads, and for batches of one token.
#[test]
fn parts_are_folded_in_document_order_and_do_not_depend_on_the_batches() {
    let file = mixed();
    let run = |batch_size| {
        let mut state = (Vec::new(), vec![0.0; demo().1.cfg().d_sae]);
        let read = visit(&path(&file), batch_size, &(Records, Sums), &mut state).unwrap();
        (state, read)
    };
    let expected = run(64);
    let ((records, _), read) = &expected;
    assert!(records.is_sorted_by_key(|(document, _)| document));
    assert_eq!((read.documents, read.documents_skipped, read.contexts), (48, 8, records.len() as u64));
    for batch_size in [1, 3, 1000] {
        assert!(run(batch_size) == expected, "batch_size {batch_size}");
    }
    for threads in [1, 3] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        assert!(pool.install(|| run(2)) == expected, "{threads} threads");
    }
}

#[test]
fn a_consumer_sees_what_the_records_say() {
    let folder = tempfile::tempdir().unwrap();
    let file = mixed();
    let output_path = folder.path().join("out.jsonl").to_string_lossy().into_owned();
    let (model, sae) = demo();
    let options = ExtractOptions {
        dataset_path: path(&file),
        output_path: output_path.clone(),
        prepend_bos: Some(true),
        ..Default::default()
    };
    create_feature_dataset(&model, &sae, None, &options, &Progress::default()).unwrap();
    let written = read_records(Path::new(&output_path)).unwrap().collect::<Result<Vec<_>>>().unwrap();
    let mut seen = Vec::new();
    visit(&path(&file), 64, &Records, &mut seen).unwrap();
    assert!(seen.into_iter().map(|(_, record)| record).eq(written));
}

#[test]
fn an_error_of_a_consumer_ends_the_pass() {
    let file = documents(&["a boat"; 12]);
    for (in_fold, step) in [(false, "reduce"), (true, "fold")] {
        let mut state = (Vec::new(), Vec::new());
        let consumer = (Records, Failing { in_fold, document: 7 });
        let error = visit(&path(&file), 1, &consumer, &mut state).unwrap_err().to_string();
        assert_eq!(error, format!("the {step} of a test: expected no document 7, got 7"));
        // A worker's error need not wait for the batches before it.
        let folded: Vec<u64> = (0..7).collect();
        assert!(folded.starts_with(&state.1) && (state.1 == folded || !in_fold), "{:?}", state.1);
    }
    let mut records = Vec::new();
    let error = visit(&path(&documents(&["", ""])), 1, &Records, &mut records).unwrap_err().to_string();
    assert!(error.ends_with("expected documents with tokens, got 2 without tokens"), "{error}");
}
