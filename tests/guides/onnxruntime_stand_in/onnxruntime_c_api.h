#pragma once
// A stand-in for ONNX Runtime's C API: the names and signatures that examples/onnxruntime_op uses, and no
// more. What stands behind them is in stand_in_host.cpp.

#include <cstddef>
#include <cstdint>

enum OrtErrorCode { ORT_OK, ORT_FAIL, ORT_INVALID_ARGUMENT };
enum OrtMemType { OrtMemTypeDefault = 0 };
enum OrtCustomOpInputOutputCharacteristic {
  INPUT_OUTPUT_REQUIRED = 0,
  INPUT_OUTPUT_OPTIONAL,
  INPUT_OUTPUT_VARIADIC,
};
enum ONNXTensorElementDataType {
  ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT = 1,
  ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16 = 10,
  ONNX_TENSOR_ELEMENT_DATA_TYPE_BFLOAT16 = 16,
};

struct OrtStatus;
struct OrtValue;
struct OrtTensorTypeAndShapeInfo;
struct OrtKernelInfo;
struct OrtKernelContext;
struct OrtCustomOpDomain;
struct OrtSessionOptions;
struct OrtApi;

struct OrtAllocator {
  void* (*Alloc)(OrtAllocator* self, std::size_t size);
  void (*Free)(OrtAllocator* self, void* memory);
};

struct OrtCustomOp {
  std::uint32_t version;
  const char* (*GetName)(const OrtCustomOp*);
  const char* (*GetExecutionProviderType)(const OrtCustomOp*);
  ONNXTensorElementDataType (*GetInputType)(const OrtCustomOp*, std::size_t index);
  std::size_t (*GetInputTypeCount)(const OrtCustomOp*);
  ONNXTensorElementDataType (*GetOutputType)(const OrtCustomOp*, std::size_t index);
  std::size_t (*GetOutputTypeCount)(const OrtCustomOp*);
  void (*KernelDestroy)(void* kernel);
  OrtCustomOpInputOutputCharacteristic (*GetInputCharacteristic)(const OrtCustomOp*, std::size_t index);
  OrtCustomOpInputOutputCharacteristic (*GetOutputCharacteristic)(const OrtCustomOp*, std::size_t index);
  OrtMemType (*GetInputMemoryType)(const OrtCustomOp*, std::size_t index);
  int (*GetVariadicInputMinArity)(const OrtCustomOp*);
  int (*GetVariadicInputHomogeneity)(const OrtCustomOp*);
  OrtStatus* (*CreateKernelV2)(const OrtCustomOp*, const OrtApi*, const OrtKernelInfo*, void** kernel);
  OrtStatus* (*KernelComputeV2)(void* kernel, OrtKernelContext*);
  int (*GetStartVersion)(const OrtCustomOp*);
  int (*GetEndVersion)(const OrtCustomOp*);
};

struct OrtApi {
  OrtStatus* (*CreateStatus)(OrtErrorCode code, const char* message);
  const char* (*GetErrorMessage)(const OrtStatus*);
  void (*ReleaseStatus)(OrtStatus*);
  OrtStatus* (*CreateCustomOpDomain)(const char* name, OrtCustomOpDomain** out);
  OrtStatus* (*CustomOpDomain_Add)(OrtCustomOpDomain*, const OrtCustomOp*);
  OrtStatus* (*AddCustomOpDomain)(OrtSessionOptions*, OrtCustomOpDomain*);
  void (*ReleaseCustomOpDomain)(OrtCustomOpDomain*);
  OrtStatus* (*GetTensorMutableData)(OrtValue*, void** out);
  OrtStatus* (*GetTensorTypeAndShape)(const OrtValue*, OrtTensorTypeAndShapeInfo** out);
  OrtStatus* (*GetDimensionsCount)(const OrtTensorTypeAndShapeInfo*, std::size_t* out);
  OrtStatus* (*GetDimensions)(const OrtTensorTypeAndShapeInfo*, std::int64_t* out, std::size_t count);
  void (*ReleaseTensorTypeAndShapeInfo)(OrtTensorTypeAndShapeInfo*);
  OrtStatus* (*KernelInfoGetAttribute_float)(const OrtKernelInfo*, const char* name, float* out);
  OrtStatus* (*KernelInfoGetAttribute_int64)(const OrtKernelInfo*, const char* name, std::int64_t* out);
  OrtStatus* (*KernelInfoGetAttribute_string)(const OrtKernelInfo*, const char* name, char* out,
                                              std::size_t* size);
  OrtStatus* (*KernelInfo_GetInputCount)(const OrtKernelInfo*, std::size_t* out);
  OrtStatus* (*KernelInfoGetConstantInput_tensor)(const OrtKernelInfo*, std::size_t index, int* is_constant,
                                                  const OrtValue** out);
  OrtStatus* (*KernelInfoGetAllocator)(const OrtKernelInfo*, OrtMemType, OrtAllocator** out);
  void (*ReleaseAllocator)(OrtAllocator*);
  OrtStatus* (*KernelContext_GetInput)(const OrtKernelContext*, std::size_t index, const OrtValue** out);
  OrtStatus* (*KernelContext_GetOutput)(OrtKernelContext*, std::size_t index, const std::int64_t* shape,
                                        std::size_t rank, OrtValue** out);
  OrtStatus* (*KernelContext_ParallelFor)(const OrtKernelContext*, void (*function)(void*, std::size_t),
                                          std::size_t total, std::size_t batches, void* data);
};

struct OrtApiBase {
  const OrtApi* (*GetApi)(std::uint32_t version);
};
