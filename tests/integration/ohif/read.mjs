// Reads DICOM results with OHIF's own handlers, as its viewer does after a query over DICOMweb: node read.mjs STUDY.json
// The parts that OHIF's core and user interface would give are stubs. Prints one JSON object.
import { readFileSync } from 'node:fs';
import * as adapters from '@cornerstonejs/adapters';
import * as core from '@cornerstonejs/core';
import * as tools from '@cornerstonejs/tools';
import dcmjs from 'dcmjs';

const { BitArray, DicomMessage, DicomMetaDictionary } = dcmjs.data;
const { source, results } = JSON.parse(readFileSync(process.argv[2], 'utf8'));
console.log = console.info = console.debug = () => {}; // standard output is for the result

const stub = new Proxy(function () {}, {
  get: (_, key) => (key === Symbol.toPrimitive ? () => '' : key === '__esModule' ? true : stub),
  apply: () => stub,
  construct: () => stub,
});
const partly = parts => new Proxy(parts, { get: (own, key) => (key in own ? own[key] : stub) });
globalThis.self = globalThis;
globalThis.document = stub;

// What the viewer knows of each image.
const instances = new Map();
const images = source.map(json => DicomMetaDictionary.naturalizeDataset(json));
const imageIds = images.map(image => `wadors:${image.SOPInstanceUID}/frames/1`);
images.forEach((image, index) => instances.set(imageIds[index], image));
core.metaData.addProvider((kind, imageId) => {
  const image = instances.get(imageId);
  if (!image) return undefined;
  if (kind === 'instance') return image;
  if (kind === 'generalImageModule' || kind === 'sopCommonModule') {
    return { sopInstanceUID: image.SOPInstanceUID, sopClassUID: image.SOPClassUID };
  }
  if (kind === 'generalSeriesModule') return { seriesInstanceUID: image.SeriesInstanceUID, modality: image.Modality };
  if (kind !== 'imagePlaneModule' || !image.ImagePositionPatient) return undefined;
  const [rowCosines, columnCosines] = [image.ImageOrientationPatient.slice(0, 3), image.ImageOrientationPatient.slice(3)];
  const [rowPixelSpacing, columnPixelSpacing] = image.PixelSpacing;
  return {
    frameOfReferenceUID: image.FrameOfReferenceUID, rows: image.Rows, columns: image.Columns,
    imageOrientationPatient: image.ImageOrientationPatient, imagePositionPatient: image.ImagePositionPatient,
    rowCosines, columnCosines, rowPixelSpacing, columnPixelSpacing, pixelSpacing: image.PixelSpacing,
  };
}, 1000);

const file = kind => new Uint8Array(readFileSync(results[kind].file)).buffer;
const scan = { displaySetInstanceUID: 'scan', imageIds, images, FrameOfReferenceUID: images[0].FrameOfReferenceUID };
const services = partly({
  displaySetService: partly({
    activeDisplaySets: [],
    getDisplaySetsForReferences: named =>
      [].concat(named)[0].SeriesInstanceUID === images[0].SeriesInstanceUID ? [scan] : [],
    getDisplaySetByUID: uid => (uid === 'scan' ? scan : undefined),
  }),
  segmentationService: partly({ createSegmentationForSEGDisplaySet: async () => {} }),
  customizationService: { getCustomization: () => undefined },
  measurementService: partly({ getSourceMappings: () => [{ annotationType: 'Length' }] }),
});
const dataSource = {
  getImageIdsForInstance: ({ instance, frame }) => `wadors:${instance.SOPInstanceUID}/frames/${frame ?? 1}`,
  getImageIdsForDisplaySet: shown => shown.imageIds,
  getConfig: () => ({}),
  retrieve: {},
};
const names = DicomMetaDictionary.sopClassUIDsByName;
const modules = {
  '@cornerstonejs/adapters': adapters, '@cornerstonejs/core': core, '@cornerstonejs/tools': tools, dcmjs,
  '@ohif/core': partly({
    utils: partly({ guid: () => core.utilities.uuidv4(), sopClassDictionary: names, sortDisplaySetsCopy: sets => sets }),
    DicomMetadataStore: { getInstance: () => undefined },
  }),
};

// The display set that OHIF's extension makes of a result, loaded.
async function opened(kind) {
  const name = `ohif-extension-cornerstone-dicom-${kind}`;
  const path = `./node_modules/@ohif/${name.slice(5)}/dist/${name}.umd.js`;
  const module = { exports: {} };
  const code = readFileSync(new URL(path, import.meta.url), 'utf8');
  new Function('module', 'exports', 'require', code)(module, module.exports, wanted => modules[wanted] ?? stub);
  const instance = DicomMetaDictionary.naturalizeDataset(results[kind].metadata);
  for (let frame = 1; frame <= (instance.NumberOfFrames ?? 1); frame++) {
    instances.set(`wadors:${instance.SOPInstanceUID}/frames/${frame}`, instance);
  }
  const [handler] = module.exports.default.getSopClassHandlerModule({
    servicesManager: { services },
    extensionManager: partly({ getActiveDataSource: () => [dataSource], getDataSources: () => [dataSource] }),
  });
  const [displaySet] = handler.getDisplaySetsFromSeries([instance]);
  await displaySet.load({ headers: {} });
  return displaySet;
}

async function segmentation() {
  const whole = DicomMetaDictionary.naturalizeDataset(DicomMessage.readFile(file('seg')).dict);
  const bits = BitArray.unpack([].concat(whole.PixelData)[0]);
  const size = whole.Rows * whole.Columns;
  core.imageLoader.registerImageLoader('wadors', imageId => {
    const frame = Number(imageId.split('/').pop());
    return { promise: Promise.resolve({ getPixelData: () => bits.slice((frame - 1) * size, frame * size) }) };
  });
  const { labelMapImages, segMetadata } = await opened('seg');
  const labels = {}; // overlapping segments would give a slice several label maps
  for (const image of labelMapImages.flat()) {
    const { sopInstanceUID } = core.metaData.get('generalImageModule', image.referencedImageId);
    labels[sopInstanceUID] = [...(labels[sopInstanceUID] ?? []), Array.from(image.getPixelData())];
  }
  return { labels, segments: segMetadata.data.slice(1).map(segment => segment.SegmentLabel) };
}

// As OHIF's extension for parametric maps does: it sets these values on the slices of the sorted volume.
async function parametricMap() {
  const { sortedImageIds } = core.utilities.sortImageIdsAndGetSpacing([...imageIds]);
  const { ParametricMap } = adapters.adaptersPMAP.Cornerstone3D;
  const { pixelData } = await ParametricMap.generateToolState(sortedImageIds, file('pm'), core.metaData);
  const size = pixelData.length / sortedImageIds.length;
  return Object.fromEntries(sortedImageIds.map((imageId, index) => [
    instances.get(imageId).SOPInstanceUID, Array.from(pixelData.subarray(index * size, (index + 1) * size)),
  ]));
}

// Name and value of every measurement in the content tree.
function numbers(content) {
  return [].concat(content?.ContentSequence ?? []).flatMap(item => [].concat(item)).flatMap(item =>
    item.ValueType === 'NUM'
      ? [[item.ConceptNameCodeSequence[0].CodeMeaning, Number(item.MeasuredValueSequence[0].NumericValue)]]
      : numbers(item));
}

const answer = {};
if (results.seg) answer.seg = await segmentation();
answer.pm = await parametricMap();
const report = DicomMetaDictionary.naturalizeDataset(DicomMessage.readFile(file('sr')).dict);
const { measurements, isImagingMeasurementReport } = await opened('sr');
answer.sr = { numbers: numbers(report), measurements, isImagingMeasurementReport };
process.stdout.write(JSON.stringify(answer));
