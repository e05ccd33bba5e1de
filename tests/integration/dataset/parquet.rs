//! Parquet in every compression and encoding, and columns that are not text.

use super::{Folder, assert_fails, failure, fixture, gzip, outcome, zstd};
use saescope::dataset::DatasetOptions;
use saescope::{Dataset, Progress};
use std::fs;

#[test]
fn parquet_columns_must_hold_strings() {
    let snappy = fixture("parquet_snappy/docs.parquet");
    let (_, message, hint) = failure(&snappy, "body");
    assert!(message.contains("unknown column `body` in `"), "{message}");
    assert_eq!(hint, "known columns: `text`, `meta`, `n`");
    for (column, kind) in [("n", "got INT64"), ("meta", "got a struct")] {
        let (_, message, hint) = failure(&snappy, column);
        assert!(message.ends_with(&format!("column `{column}`: expected strings, {kind}")), "{message}");
        assert_eq!(hint, "set `text_column` to a column that holds strings: `text`");
    }
    let parquet = fs::read(snappy).expect("a fixture");
    assert_fails(
        "x.parquet.gz",
        &gzip(&parquet),
        "FILE: expected a Parquet file, got one compressed with gzip | decompress it first, with `gunzip`",
    );
    assert_fails(
        "x.parquet",
        &zstd(&parquet),
        "FILE: expected a Parquet file, got one compressed with zstd | decompress it first, with `unzstd`",
    );
    assert_fails("x.parquet", b"", "FILE: not readable as Parquet: ");
}

/// A Parquet file of two row groups of 1000 rows: the text (null in every third row), and columns of other types.
fn file(properties: parquet::file::properties::WriterPropertiesBuilder) -> Vec<u8> {
    use parquet::data_type::{ByteArray, ByteArrayType, Int32Type};
    let schema = "message rows {
        optional binary text (UTF8); required binary sure (STRING); required binary raw; required int32 day (DATE);
        repeated binary many (UTF8);
    }";
    let schema = parquet::schema::parser::parse_message_type(schema).expect("a schema");
    let mut written = Vec::new();
    let properties = properties.set_data_page_row_count_limit(100).set_write_batch_size(50).build();
    let mut writer =
        parquet::file::writer::SerializedFileWriter::new(&mut written, schema.into(), properties.into())
            .expect("a writer");
    for _ in 0..2 {
        let all: Vec<_> = (0..1000).map(|row| ByteArray::from(format!("text {row}").as_str())).collect();
        let levels: Vec<i16> = (0..1000).map(|row| i16::from(row % 3 != 2)).collect();
        let present: Vec<_> =
            all.iter().zip(&levels).filter(|(_, level)| **level == 1).map(|(text, _)| text.clone()).collect();
        let mut group = writer.next_row_group().expect("a row group");
        let mut column = 0;
        while let Some(mut values) = group.next_column().expect("a column") {
            let empty = vec![0; 1000];
            let result = match column {
                0 => values.typed::<ByteArrayType>().write_batch(&present, Some(&levels), None),
                3 => values.typed::<Int32Type>().write_batch(&[7; 1000], None, None),
                4 => values.typed::<ByteArrayType>().write_batch(&[], Some(&empty), Some(&empty)),
                _ => values.typed::<ByteArrayType>().write_batch(&all, None, None),
            };
            result.and_then(|_| values.close()).expect("1000 rows");
            column += 1;
        }
        group.close().expect("a row group");
    }
    writer.close().expect("a file");
    written
}

#[test]
fn every_parquet_compression_and_encoding_is_read() {
    use parquet::basic::{Compression, Encoding};
    use parquet::file::properties::{WriterProperties, WriterVersion};
    let builder = WriterProperties::builder;
    let compressions = [
        Compression::UNCOMPRESSED,
        Compression::SNAPPY,
        Compression::GZIP(Default::default()),
        Compression::BROTLI(Default::default()),
        Compression::LZ4,
        Compression::LZ4_RAW,
        Compression::ZSTD(Default::default()),
    ];
    let mut files: Vec<_> = compressions.map(|kind| file(builder().set_compression(kind))).into();
    for encoding in [Encoding::PLAIN, Encoding::DELTA_LENGTH_BYTE_ARRAY, Encoding::DELTA_BYTE_ARRAY] {
        let properties = builder().set_dictionary_enabled(false).set_column_encoding("text".into(), encoding);
        files.push(file(properties.clone()));
        files.push(file(properties.set_writer_version(WriterVersion::PARQUET_2_0)));
    }
    let row = |row: usize| if row % 3 == 2 { String::new() } else { format!("text {row}") };
    let group: Vec<_> = (0..1000).map(row).collect();
    let expected = [group.clone(), group].concat();
    for (i, file) in files.iter().enumerate() {
        assert_eq!(outcome("x.parquet", file).as_ref(), Ok(&expected), "file {i}");
    }
    let folder = Folder::with(&[("x.parquet", &files[0])]);
    let path = folder.path("x.parquet");
    let options = DatasetOptions { text_column: "sure".to_owned(), ..DatasetOptions::default() };
    let sure = Dataset::open_with(&path, &options, &Progress::default())
        .expect("a file")
        .documents(&Progress::default());
    assert!(
        sure.enumerate().all(|(row, text)| text.is_ok_and(|text| text == format!("text {}", row % 1000)))
    );
    for (column, got) in [("raw", "got BYTE_ARRAY"), ("day", "got INT32 (Date)"), ("many", "got a list")] {
        let (_, message, hint) = failure(&path, column);
        assert!(message.ends_with(got), "{message}");
        assert_eq!(hint, "set `text_column` to a column that holds strings: `text`, `sure`");
    }
}
